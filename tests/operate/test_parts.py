"""What a killed copy or export leaves is taken away by the next run to its target, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

import durable
from durable import operate
from durable._runtime.store_files import copy_open
from durable.cli import main
from durable.operate import copying, parts

pytestmark = pytest.mark.backends("asyncio")

# The kill comes when the copy or the export is half done.
KILLED = """
import os, signal, sys
from durable import operate
from durable.cli import main
from durable.operate import copying

def half(*words, **options):
    if options.get("compact") is not None:
        open(os.path.join(words[1], "data.mdb"), "wb").write(b"half of it")
    else:
        words[1].write('{"format": "durable export", "version": 1}')
        words[1].flush()
    os.kill(os.getpid(), signal.SIGKILL)

copying.copy_open = half
operate.export = half
main(sys.argv[1:])
"""


class Keeper(durable.DurableObject):
    async def keep(self) -> None:
        self.ctx.storage.put("key", "value")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with durable.open(tmp_path / "store") as runtime:
            await runtime.namespace(Keeper).get_by_name("a").keep()

    anyio.run(fill)
    return tmp_path / "store"


def killed(store: Path, *words: str) -> None:
    command = [sys.executable, "-c", KILLED, *words]
    assert subprocess.run(command, check=False, timeout=60).returncode < 0


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.suffix == ".part")


COMMANDS = {
    "copy": ("copy", "{store}", "{target}"),
    "compact copy": ("copy", "{store}", "{target}", "--compact"),
    "export": ("export", "{store}", "-o", "{target}"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_the_next_run_takes_away_what_killed_ones_have_left(
    store: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so; what was left by runs to other targets stays."""
    words = [word.format(store=store, target=tmp_path / "target") for word in COMMANDS[what]]
    other = [word.format(store=store, target=tmp_path / "other") for word in COMMANDS[what]]
    killed(store, *words)
    killed(store, *words)
    killed(store, *other)
    others, own = left(tmp_path)

    assert main(words) == 0
    assert left(tmp_path) == [others]
    said = f"removed {tmp_path / own}, left by a run that was killed\n"
    assert said in capsys.readouterr().err


def test_parts_that_grow_stay(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy and an export, while others to the same target come to their ends."""
    operate.copy(store, tmp_path / "second")
    grown: list[str] = []

    def copy_beside(*words: object, **options: object) -> None:
        if not grown:
            grown.extend(left(tmp_path))
            operate.copy(tmp_path / "second", tmp_path / "target")
            assert left(tmp_path) == grown
        copy_open(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "copy_open", copy_beside)
    with pytest.raises(FileExistsError):
        operate.copy(store, tmp_path / "target")
    assert len(grown) == 1
    assert left(tmp_path) == []

    with open(parts.new_file(operate.part_of(tmp_path / "file")), "w", encoding="utf-8"):
        assert main(["export", str(store), "-o", str(tmp_path / "file")]) == 0
        assert len(left(tmp_path)) == 1
    assert len(parts.take_away_left(tmp_path / "file")) == 1


def test_what_only_looks_like_a_part_stays(store: Path, tmp_path: Path) -> None:
    """A file of something else, a folder with something else in it, a link, another name."""
    (tmp_path / "target.0123abcd.part").write_text("mine")
    folder = tmp_path / "target.1123abcd.part"
    folder.mkdir()
    (folder / "data.mdb").touch()
    (folder / "mine").touch()
    (tmp_path / "target.2123abcd.part").symlink_to(store)
    (tmp_path / "target.part").touch()
    (tmp_path / "target.0123abcd.part.txt").touch()
    os.mkfifo(tmp_path / "target.3123abcd.part")
    before = sorted(tmp_path.rglob("*"))

    assert parts.take_away_left(tmp_path / "target") == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_is_taken_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run that has just looked for what was left."""
    flock, taken = parts.fcntl.flock, []

    def late(fd: int, how: int) -> None:
        if not taken and not how & parts.fcntl.LOCK_NB:
            taken.extend(parts.take_away_left(tmp_path / "target"))
        flock(fd, how)

    monkeypatch.setattr(parts.fcntl, "flock", late)
    part = operate.part_of(tmp_path / "target")
    with parts.new_folder(part):
        assert taken == [part]
        assert Path(part).is_dir()
        assert parts.take_away_left(tmp_path / "target") == []
