"""P19 and P20 between processes that speak over TCP and have their store on PostgreSQL: one is
killed, and one is stopped for longer than its lease. `python -m benchmarks.machines` does more."""

from __future__ import annotations

import pytest

from benchmarks import machines
from tests import postgres


@pytest.mark.backends("asyncio", "trio")
async def test_nothing_confirmed_is_lost_and_no_stale_process_answers() -> None:
    if not postgres.is_there():
        pytest.skip(postgres.MISSING)
    run = await machines.measure(1, 1.0, ["kill -9", "SIGSTOP"])

    assert (run.lost, run.twice, run.stale) == (0, 0, 0)
    assert run.confirmed > 100
    assert run.reads > 10
    assert set(machines.report(run)["longest outage of a counter, s"]) == {
        "none",
        "kill -9",
        "SIGSTOP",
    }
