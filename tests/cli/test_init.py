"""`durable init` makes a project that runs: its test passes, its program is served, its types are
right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from durable.cli import main
from durable.cli.project import project_files, project_name
from tests.typing.checkers import errors, mypy, pyright

pytest.importorskip("click")
pytest.importorskip("rich")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
START_S_MAX = 20.0


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "My Shop"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "Run it:  cd 'My Shop'; uvicorn main:app"
    return tmp_path / "My Shop"


def test_the_test_of_a_new_project_passes(project: Path) -> None:
    """As a person runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "warning" not in done.stdout


@pytest.fixture
def served(project: Path) -> Iterator[str]:
    """The project's program, served by the command of its Dockerfile, but for host and port."""
    docker = (project / "Dockerfile").read_text("utf-8")
    words = re.findall(r'"([^"]*)"', docker[docker.index("CMD") :])
    assert words[:2] == ["uvicorn", "main:app"]
    words[words.index("--host") + 1] = "127.0.0.1"
    words[words.index("--port") + 1] = "0"
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=project,
        env={**ENVIRONMENT, "DURABLE_OPERATE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            line = ""
            while "running on" not in line:
                line = process.stderr.readline()
                assert line, "the server has ended"
            yield line[line.index("http") :].split()[0]
        finally:
            process.terminate()


def test_the_program_of_a_new_project_is_served(
    project: Path, served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the command line sees and changes it, as its README says."""
    end_s = time.monotonic() + START_S_MAX
    while True:
        try:
            assert httpx.get(f"{served}/front-page").text == "1\n"
            break
        except httpx.TransportError:
            assert time.monotonic() < end_s
            time.sleep(0.05)
    state = str(project / "state")

    assert main(["call", state, "Counter", "/front-page", "increment", "[5]"]) == 0
    assert capsys.readouterr().out == "6\n"
    assert httpx.get(f"{served}/front-page").text == "7\n"


def test_the_types_of_a_new_project_are_right(project: Path, tmp_path: Path) -> None:
    """For mypy and pyright, both strict, with no plugin."""
    files = [project / "main.py", project / "tests" / "test_main.py"]

    assert errors(mypy(*files, folder=project)) == []
    assert errors(pyright(*files, folder=project)) == []


def test_the_files_of_a_new_project_are_well_formed(project: Path) -> None:
    """What one names the other has."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,I,W", "."],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    described = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert described["project"]["name"] == "my-shop"
    assert described["project"]["dependencies"][0].startswith("durable-objects[asgi,cli]>=")
    docker = (project / "Dockerfile").read_text("utf-8")
    for name in re.findall(r"^COPY (.*) /srv/$", docker, re.MULTILINE)[0].split():
        assert (project / name).is_file()
    assert "{" not in (project / "README.md").read_text("utf-8")


def test_nothing_that_is_there_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then nothing is made at all; other files are in no way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "pyproject.toml").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("mine", encoding="utf-8")

    assert main(["init", "taken"]) == 1
    assert "taken/pyproject.toml: it exists already" in capsys.readouterr().err
    assert os.listdir("taken") == ["pyproject.toml"]
    assert main(["init", "file"]) == 1
    assert "the project goes into a folder" in capsys.readouterr().err
    assert main(["init", "other"]) == 0
    assert {"notes", "main.py"} < set(os.listdir("other"))
    monkeypatch.chdir(tmp_path / "other")
    assert main(["init"]) == 1


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Shop", "shop"), ("my shop.2", "my-shop-2"), ("žluť", "lu"), ("…", "counters")],
)
def test_a_project_is_called_as_its_folder(folder: str, name: str) -> None:
    """As far as a package and an image can be."""
    assert project_name(folder) == name
    assert f'name = "{name}"' in project_files(folder)["pyproject.toml"]
