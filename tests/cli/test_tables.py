"""Tables for people, on a terminal: nothing of a row is lost, however narrow it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from rich.cells import cell_len
from rich.console import Console

from durable.cli import printing

COLUMNS = ("name", "id", "keys")
STEPS = [
    [],
    [("one", "a" * 64, "1"), ("two", "b" * 64, "22")],
    [],
    [("a name that is longer than those before", "c" * 64, "333"), ("日本", "d" * 64, "4")],
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_shows_all_cells(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that do not fit."""
    monkeypatch.setattr(
        printing, "console", lambda: Console(force_terminal=True, width=width, color_system=None)
    )
    printing.print_table(COLUMNS, STEPS, nothing="nothing")

    shown = capsys.readouterr().out
    for cell in ("keys", "one", "a" * 64, "22", "c" * 64, "333", "日本", "d" * 64):
        assert cell in shown
    assert shown.count("keys") == 1


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_step_is_printed_before_the_next_is_asked_for(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long listing is read as it grows."""
    monkeypatch.setattr(printing, "console", lambda: Console(force_terminal=is_terminal, width=200))

    def steps() -> Iterator[list[tuple[str, str, str]]]:
        yield [("one", "1", "x")]
        yield [("two", "2", "x")]
        seen.append("one" in (shown := capsys.readouterr().out) and "two" in shown)
        yield [("three", "3", "x")]

    seen: list[bool] = []
    printing.print_table(COLUMNS, steps(), nothing="nothing")

    assert seen == [True]
    assert "three" in capsys.readouterr().out


WIDE = [
    [("one", "1", "x"), ("日本語", "22", "x"), ("e\u0301", "3", "x"), ("n" * 30, "4", "x")],
    [("a name that is longer than those of the step before", "5", "x"), ("two", "6", "x")],
]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_columns_are_aligned_whatever_is_in_them(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Characters may take two cells or none, and a name may be longer than those before it."""
    monkeypatch.setattr(printing, "console", lambda: Console(force_terminal=is_terminal, width=200))
    printing.print_table(COLUMNS, WIDE, nothing="nothing")

    lines = capsys.readouterr().out.splitlines()
    places = [cell_len(line[: line.index("x")]) for line in lines[1:]]
    assert len(set(places[:4])) == 1
    assert len(set(places[4:])) == 1


def test_columns_that_are_folded_are_aligned_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is too wide for the terminal is folded to the same width in all rows."""
    monkeypatch.setattr(
        printing, "console", lambda: Console(force_terminal=True, width=100, color_system=None)
    )
    rows = [("n" * 200, "1", "x"), ("日本語" * 40, "2", "x"), ("one", "3", "x")]
    printing.print_table(COLUMNS, [rows, [("two", "4", "x")]], nothing="nothing")

    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 100
    assert len({cell_len(line[: line.index("x")]) for line in lines if "x" in line}) == 1
    assert "".join(lines).count("n") == 202  # "name" and "one" have one each
    assert "".join(lines).count("日") == 40
