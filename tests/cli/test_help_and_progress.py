"""What a person at a terminal is told: complete first sentences, and how far long work has come."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from rich.console import Console

import durable
from durable import operate
from durable.cli import main, printing
from durable.cli.commands import commands

pytestmark = pytest.mark.backends("asyncio")


def test_the_help_shows_each_first_sentence_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the width of an ordinary terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "..." not in shown.partition("Commands:")[2]
    for name, command in commands.commands.items():
        assert command.help is not None
        first = command.help.split(".", 1)[0] + "."
        assert f"{name:<9}{first}" in shown


class Keeper(durable.DurableObject):
    async def keep(self) -> None:
        self.ctx.storage.put("key", "value")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with durable.open(tmp_path / "store") as runtime:
            for number in range(250):
                await runtime.namespace(Keeper).get_by_name(str(number)).keep()

    anyio.run(fill)
    return tmp_path / "store"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown of the progress, on a terminal."""
    texts: list[str] = []

    class Screen(Console):
        def __init__(self, **options: Any) -> None:
            super().__init__(file=io.StringIO(), force_terminal=True)

        def status(self, status: Any, **options: Any) -> Any:
            made = super().status(status, **options)
            monkeypatch.setattr(made, "update", texts.append)
            return made

    monkeypatch.setattr(printing, "Console", Screen)
    return texts


def test_export_and_import_tell_how_much_of_the_whole_is_done(
    folder: Path, tmp_path: Path, told: list[str]
) -> None:
    file = str(tmp_path / "file")
    assert main(["export", str(folder), "-o", file]) == 0
    assert told == [
        "exporting objects 100 of 250 (40 %)",
        "exporting objects 200 of 250 (80 %)",
    ]
    told.clear()
    assert main(["export", str(folder), "Keeper", "-o", file, "--force"]) == 0
    assert told[-1] == "exporting objects 200 of 250 (80 %)"
    told.clear()
    assert main(["import", str(tmp_path / "new"), file]) == 0
    assert told == [
        "importing objects 100 of 250 (40 %)",
        "importing objects 200 of 250 (80 %)",
    ]


@pytest.mark.parametrize("options", [[], ["--compact"]])
def test_a_copy_tells_how_much_of_the_whole_is_done(
    options: list[str],
    folder: Path,
    tmp_path: Path,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bytes, of those of the file; without free pages of those that are used."""

    def copy(store: str, target: str, *, part: str, **options: object) -> None:
        """Stands still when it has written something, until that was told."""
        Path(part).mkdir()
        (Path(part) / "data.mdb").write_bytes(bytes(4_096))
        end_s = time.monotonic() + 30
        while not told and time.monotonic() < end_s:
            time.sleep(0.01)

    monkeypatch.setattr(operate, "copy", copy)
    with operate.look(folder) as store:
        found = store.measure()
    pages = found.pages - (found.free_pages if options else 0)

    assert main(["copy", str(folder), str(tmp_path / "copy"), *options]) == 0

    assert told[0] == (
        f"copying 4.0 KiB of {printing.size(pages * found.page_size)} ({100 // pages} %)"
    )


QUIET: list[Callable[[Path, Path], list[str]]] = [
    lambda folder, new: ["export", str(folder), "-o", str(new)],
    lambda folder, new: ["copy", str(folder), str(new)],
]


@pytest.mark.parametrize("command", QUIET)
def test_quiet_commands_tell_nothing(
    command: Callable[[Path, Path], list[str]],
    folder: Path,
    tmp_path: Path,
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --quiet, on a terminal too."""
    assert main([*command(folder, tmp_path / "new"), "--quiet"]) == 0
    if command is QUIET[0]:
        assert main(["import", str(tmp_path / "store2"), str(tmp_path / "new"), "-q"]) == 0

    assert told == []
    assert capsys.readouterr() == ("", "")


def test_nothing_of_the_progress_is_printed_where_nobody_looks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets the result alone, and the whole is not even counted."""
    assert main(["copy", str(folder), str(tmp_path / "copy")]) == 0
    assert capsys.readouterr() == ("", "")
    with printing.progress("working", lambda: pytest.fail("asked for the whole")) as tell:
        tell(100)


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (5, None, "5"), (5, 0, "5"), (5, 10, "5 of 10 (50 %)"), (10, 10, "10 of 10 (100 %)"),
        (12, 10, "12 of 12 (100 %)"), (1_000, 9_999, "1,000 of 9,999 (10 %)"),
    ],
)  # fmt: skip
def test_progress_is_shown_against_the_whole(done: int, total: int | None, text: str) -> None:
    """Where the whole has grown meanwhile it is never more than all."""
    assert printing.progress_text(done, total, "{:,}".format) == text


def test_an_import_tells_the_whole_before_the_first_object(folder: Path, tmp_path: Path) -> None:
    """From Python, for a display of the program's own."""
    seen: list[tuple[str, int]] = []
    with operate.look(folder) as store, (tmp_path / "file").open("w", encoding="utf-8") as file:
        operate.export(store, file)
    operate.import_file(
        tmp_path / "new",
        tmp_path / "file",
        on_total=lambda count: seen.append(("total", count)),
        on_object=lambda count: seen.append(("object", count)),
    )

    assert seen[0] == ("total", 250)
    assert [count for what, count in seen if what == "object"] == list(range(1, 251))
