"""What a store's path may be: a folder, or the URL of a database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import durable
from durable import operate
from durable.cli import main

OTHERS = ["mysql://u:p@h/d", "postgresql+psycopg://u:p@h/d", "POSTGRESQL://u:p@h/d", "file:///x"]
SAYS = "begins with postgresql://"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("url", OTHERS)
def test_a_url_of_another_thing_is_not_made_a_folder(url: str, here: Path) -> None:
    """It says what can be given, and no password, wherever it stands."""
    here.joinpath("app.py").write_text("")
    here.joinpath("durable.toml").write_text(f"main = 'app.py'\npath = '{url}'\n")

    with pytest.raises(ValueError, match=SAYS) as caught:
        durable.open(url)
    assert ":p@" not in str(caught.value)
    with pytest.raises(ValueError, match=SAYS):
        operate.look(url)
    with pytest.raises(durable.InvalidConfig, match=SAYS) as said:
        durable.open_config("durable.toml")
    assert said.value.key == "path"
    assert main(["ls", url]) == 1
    assert sorted(os.listdir()) == ["app.py", "durable.toml"]


async def test_a_folder_may_have_a_colon(here: Path) -> None:
    for name in ("c:state", "a:/b"):
        async with durable.open(name):
            pass
        assert here.joinpath(name).is_dir()
