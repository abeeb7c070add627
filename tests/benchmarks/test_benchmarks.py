"""The benchmarks run, at their smallest size, and report all that they promise. No figure is judged
here: a test is no place to measure in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import (
    alarms,
    blocking,
    calls,
    harness,
    history,
    inspecting,
    objects,
    observing,
    operate,
    peers,
    peers_wire,
    postgres,
    processes,
    reads,
    sql,
    web,
    websockets,
    writes,
)
from benchmarks.harness import Row, Size, at_least, at_most, rate_at_least, time_at_most
from benchmarks.workerd import run as workerd

ROWS: dict[ModuleType, int] = {
    calls: 2,
    writes: 5,
    reads: 6,
    objects: 5,
    alarms: 3,
    websockets: 4,
    web: 4,
    observing: 2,
    blocking: 2,
    operate: 4,
    inspecting: 6,
    processes: 3,
    sql: 10,
    history: 4,
    peers_wire: 2,
}


def first_line(module: ModuleType) -> str:
    assert module.__doc__ is not None
    return module.__doc__.splitlines()[0]


def check_complete(report: dict[str, Any], rows: int) -> None:
    assert report["question"].endswith("?") or "? " in report["question"]
    assert all(report[key] for key in ("machine", "processor", "python", "commit", "loop", "size"))
    assert len(report["rows"]) == rows
    for row in report["rows"]:
        figures = [row["ours"], row["plain"]] if row["plain"] else [row["ours"]]
        for parts in figures:
            assert set(parts) == {"median", "p90", "p99"}
            assert all(math.isfinite(figure) and figure > 0 for figure in parts.values())
        assert (row["ratio"] is None) == (row["plain"] is None)
        assert (row["beside"] == "–") == (row["plain"] is None)
        assert (row["aim"] is None) == (row["is_met"] is None)
    json.dumps(report)
    assert all(row["what"] in harness.table(report) for row in report["rows"])


@pytest.mark.parametrize("module", ROWS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_question_is_answered_in_full(module: ModuleType, tmp_path: Path) -> None:
    """Every row has its figures, what it stands beside, its ratio, and whether the aim is met."""
    rows, setting = harness.run(module.ask, Size.SMALLEST, "asyncio", str(tmp_path))

    check_complete(harness.report(rows, setting, first_line(module)), ROWS[module])
    assert not list(tmp_path.iterdir()), "a run leaves no store behind"


@pytest.mark.skipif(workerd.why_not() is not None, reason=workerd.why_not() or "")
def test_workerd_answers_the_same_questions(tmp_path: Path) -> None:
    """Where node and workerd are, the real runtime does the same work in the same run."""
    rows, setting = harness.run(workerd.ask, Size.SMALLEST, "asyncio", str(tmp_path))

    check_complete(harness.report(rows, setting, first_line(workerd)), 5)


@pytest.mark.skipif(postgres.why_not() is not None, reason=postgres.why_not() or "")
def test_postgres_keeps_increments_beside_psycopg() -> None:
    """On a server of the run's own."""
    rows, setting = harness.run(postgres.ask, Size.SMALLEST, "asyncio")

    check_complete(harness.report(rows, setting, first_line(postgres)), 5)


def test_peers_do_the_same_increments() -> None:
    """Those that are there; each other one says what to install."""
    there = [name for name in peers.PEERS if peers.why_not(name) is None]
    # Not in a folder of this user's alone: PostgreSQL does not run as root.
    rows, setting = harness.run(peers.ask, Size.SMALLEST, "asyncio")

    check_complete(harness.report(rows, setting, first_line(peers)), 3 * len(there))
    assert all("install" in str(peers.why_not(name)) for name in peers.PEERS if name not in there)


def test_a_ratio_is_the_median_of_neighbouring_rounds() -> None:
    """One round in which the machine was busy does not move the ratio."""
    row = Row("x", "µs", [2.0, 30.0, 2.2], "y", [1.0, 10.0, 1.0], time_at_most(2.5))

    assert row.ratio == pytest.approx(2.2)
    assert row.is_met


def test_an_aim_says_whether_it_is_of_times_or_of_rates() -> None:
    """Half as fast is twice the time, and half the rate."""
    slow = Row("x", "µs", [2.0], "y", [1.0], rate_at_least(0.75))

    assert slow.ratio == 0.5
    assert not slow.is_met
    assert at_least(10).is_met_by(11)
    assert not at_most(10).is_met_by(11)


def test_percentiles_are_figures_that_were_measured() -> None:
    """The bad end is the high one of times and the low one of rates."""
    figures = list(range(1, 101))

    assert harness.percentiles(figures) == {"median": 50, "p90": 90, "p99": 99}
    assert harness.percentiles(figures, is_rate=True) == {"median": 51, "p90": 11, "p99": 2}
