"""How fast is the library, row by row of the contract? Asks every question, in one table."""

from __future__ import annotations

import sys

from . import (
    alarms,
    blocking,
    calls,
    history,
    journal,
    objects,
    operate,
    peers_wire,
    postgres,
    processes,
    reads,
    sql,
    web,
    websockets,
    writes,
)
from .harness import Row, arguments, report, run, show
from .workerd import run as workerd

QUESTIONS = (
    *(calls, writes, journal, reads, objects, alarms, operate, websockets, web, processes, sql),
    history,
    blocking,
    peers_wire,
)


def main() -> None:
    asked = arguments()
    rows: list[Row] = []
    for question in QUESTIONS:
        found, setting = run(question.ask, asked.size, asked.backend, asked.folder)
        rows.extend(found)
    without = postgres.why_not()
    if without is None:
        rows.extend(run(postgres.ask, asked.size, asked.backend, asked.folder)[0])
    else:
        sys.stderr.write(f"PostgreSQL was left out: {without}\n")
    missing = workerd.why_not()
    if missing is None:
        rows.extend(run(workerd.ask, asked.size, asked.backend, asked.folder)[0])
    assert __doc__ is not None
    show(report(rows, setting, __doc__.splitlines()[0]), asked.json)
    if missing is not None:
        sys.stderr.write(f"workerd was left out: {missing}\n")


if __name__ == "__main__":
    main()
