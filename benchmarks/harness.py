"""The harness: ours and the plain work by turns, in one run, and the two printed side by side.

Rule: a ratio is made of two rounds that ran next to each other, and the one printed is the median
of all such pairs; so what else the machine does falls on both sides. Figures of different runs are
never compared.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import anyio
import sniffio
import trio
from attrs import field, frozen

T = TypeVar("T")

Work = Callable[[int], Awaitable[object]]
"""Does the thing that many times."""

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"debug": False}),
    "uvloop": ("asyncio", {"debug": False, "use_uvloop": True}),
    "trio": ("trio", {}),
}


RATE = "a second"


class Size(StrEnum):
    """How much a run does: enough to see that it works, to be read, to be sure."""

    SMALLEST = "smallest"
    USUAL = "usual"
    LARGE = "large"


@frozen
class Setting:
    """What one run was asked for."""

    size: Size
    backend: str
    folder: Path  # for stores; gone after the run

    def pick(self, smallest: T, usual: T, large: T) -> T:
        """The one of the three that goes with the size."""
        return {Size.SMALLEST: smallest, Size.USUAL: usual, Size.LARGE: large}[self.size]

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


@frozen
class Aim:
    """A bound on a ratio or a figure: the contract's words, and whether a number is within."""

    text: str
    bound: float
    is_upper: bool
    is_rate: bool = False  # the ratio is of rates, plain time by ours, not of times

    def is_met_by(self, number: float) -> bool:
        return number <= self.bound if self.is_upper else number >= self.bound


def time_at_most(times: float) -> Aim:
    """Ours takes at most so many times as long as the plain work."""
    return Aim(f"<= {times:g}x", times, is_upper=True)


def rate_at_least(times: float) -> Aim:
    """Ours does at least so many times as many a second as the plain work."""
    return Aim(f">= {times:g}x rate", times, is_upper=False, is_rate=True)


def at_least(figure: float) -> Aim:
    return Aim(f">= {figure:,g}", figure, is_upper=False)


def at_most(figure: float) -> Aim:
    return Aim(f"<= {figure:,g}", figure, is_upper=True)


def _tuple(figures: Sequence[float]) -> tuple[float, ...]:
    return tuple(figures)


@frozen
class Row:
    """One answer: the figure of each round, and of the plain work beside it where there is some."""

    what: str
    unit: str
    ours: tuple[float, ...] = field(converter=_tuple)
    beside: str = "–"
    plain: tuple[float, ...] = field(converter=_tuple, default=())
    aim: Aim | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median ratio of neighbouring rounds; of times, or of rates if the aim says so."""
        if not self.plain:
            return None
        pairs = zip(self.ours, self.plain, strict=True)
        if self.aim is not None and self.aim.is_rate:
            return statistics.median(plain / ours for ours, plain in pairs)
        return statistics.median(ours / plain for ours, plain in pairs)

    @property
    def is_met(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        if self.aim is None:
            return None
        ratio = self.ratio
        return self.aim.is_met_by(statistics.median(self.ours) if ratio is None else ratio)

    def as_json(self) -> dict[str, Any]:
        is_rate = self.unit == RATE
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": percentiles(self.ours, is_rate=is_rate),
            "beside": self.beside,
            "plain": percentiles(self.plain, is_rate=is_rate) if self.plain else None,
            "ratio": self.ratio,
            "aim": self.aim.text if self.aim else None,
            "is_met": self.is_met,
            "note": self.note,
        }


Ask = Callable[[Setting], Awaitable[list[Row]]]
"""What each file has to offer: ask its question in that setting."""


def percentiles(figures: Sequence[float], *, is_rate: bool = False) -> dict[str, float]:
    """Median, p90 and p99, each a figure that was measured; of rates the low ones are the bad."""
    ordered = sorted(figures, reverse=is_rate)
    return {
        name: ordered[max(0, math.ceil(len(ordered) * part) - 1)]
        for name, part in (("median", 0.5), ("p90", 0.9), ("p99", 0.99))
    }


async def measure(work: Work, count: int) -> float:
    """Microseconds that each of *count* operations takes."""
    start = time.perf_counter()
    await work(count)
    return (time.perf_counter() - start) / count * 1e6


async def compare(
    ours: Work, plain: Work, *, rounds: int, count: int, plain_count: int | None = None
) -> tuple[list[float], list[float]]:
    """Rounds of *count* operations of each by turns, after one that does not count; microseconds
    for an operation. The two take turns at being first."""
    figures: tuple[list[float], list[float]] = ([], [])
    plain_count = plain_count or count
    await ours(count)
    await plain(plain_count)
    gc.collect()
    for number in range(rounds):
        if number % 2:
            figures[1].append(await measure(plain, plain_count))
        figures[0].append(await measure(ours, count))
        if not number % 2:
            figures[1].append(await measure(plain, plain_count))
    return figures


async def together(callers: int, call: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """So many callers at once, each a task of the loop's own: one of anyio's takes as long to make
    as several calls, and each step of it goes through a frame of anyio's."""
    if sniffio.current_async_library() == "trio":
        async with trio.open_nursery() as nursery:
            for number in range(callers):
                nursery.start_soon(call, number)
    else:
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(call(number))


# Reporting


def machine() -> dict[str, Any]:
    """What the figures hang on beside the code."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "processor": _processor(),
        "python": platform.python_version(),
        "commit": _commit(),
        # Above one, somebody else was at work too, and the figures are for nobody to quote.
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    def git(*words: str) -> str:
        where = Path(__file__).parent
        return subprocess.check_output(
            ["git", *words], cwd=where, text=True, stderr=subprocess.DEVNULL
        ).strip()

    try:
        changed = "+" if git("status", "--porcelain", "--", "../durable") else ""
        return git("rev-parse", "--short", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def report(rows: Iterable[Row], setting: Setting, question: str) -> dict[str, Any]:
    return {
        "question": question,
        "size": str(setting.size),
        "loop": setting.backend,
        **machine(),
        "rows": [row.as_json() for row in rows],
    }


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def _figures(parts: dict[str, float] | None) -> str:
    return "–" if parts is None else " / ".join(number(value) for value in parts.values())


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    head = ("", "unit", "ours p50 / p90 / p99", "plain p50 / p90 / p99", "ratio", "aim", "")
    lines = [head]
    for row in report["rows"]:
        met = {True: "reached", False: "MISSED", None: ""}[row["is_met"]]
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        what = row["what"] if row["beside"] == "–" else f"{row['what']}  | {row['beside']}"
        plain = _figures(row["plain"])
        lines.append(
            (what, row["unit"], _figures(row["ours"]), plain, ratio, row["aim"] or "–", met)
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    notes = [f"  {row['what']}: {row['note']}" for row in report["rows"] if row["note"]]
    where = (
        f"{report['processor']} ({report['machine']}), Python {report['python']}, "
        f"{report['loop']}, size {report['size']}, commit {report['commit']}, "
        f"load {report['load']}"
    )
    return "\n".join([report["question"], where, "", *texts, *notes])


# Running


def run(ask: Ask, size: Size, backend: str, folder: str | None = None) -> tuple[list[Row], Setting]:
    """Ask one question on its loop, in a scratch folder that is gone afterwards."""
    name, options = BACKENDS[backend]
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=folder) as scratch:
        setting = Setting(size, backend, Path(scratch))
        return anyio.run(ask, setting, backend=name, backend_options=options), setting


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ours beside the same work done plainly.")
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.USUAL)
    parser.add_argument("--backend", choices=list(BACKENDS), default="asyncio")
    parser.add_argument("--folder", help="where stores are made; fsync costs what its disk says")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(words)


def show(result: dict[str, Any], as_json: bool) -> None:
    sys.stdout.write((json.dumps(result, indent=2) if as_json else table(result)) + "\n")


def main(question: str | None, ask: Ask) -> None:
    """The body of `python -m benchmarks.<file>`."""
    assert question is not None
    asked = arguments()
    rows, setting = run(ask, asked.size, asked.backend, asked.folder)
    show(report(rows, setting, question.splitlines()[0]), asked.json)
