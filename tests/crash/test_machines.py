"""P19 and P20 between processes that speak over TCP and have their store on PostgreSQL: one is
killed, one is stopped for longer than its lease, and the database is killed, so that its standby
takes its place. `python -m benchmarks.machines` does more.
"""

from __future__ import annotations

import pytest

from benchmarks import machines
from tests import postgres

# Of two loops each has its own, since all of them take long.
FAULTS = {"asyncio": ["kill -9", "SIGSTOP"], "trio": ["SIGSTOP", "database killed"]}


@pytest.mark.backends("asyncio", "trio")
async def test_nothing_confirmed_is_lost_and_no_stale_process_answers(
    anyio_backend_name: str,
) -> None:
    if not postgres.is_there():
        pytest.skip(postgres.MISSING)
    faults = FAULTS[anyio_backend_name]
    run = await machines.measure(1, 1.0, faults)

    assert (run.lost, run.twice, run.stale) == (0, 0, 0)
    assert run.confirmed > 100
    assert run.reads > 10
    assert set(machines.report(run)["longest outage of a counter, s"]) == {"none", *faults}
