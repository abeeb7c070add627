"""The clocks of a machine are set at will, and a process may be stopped for a while.

An alarm is for a time of the wall clock, whatever is done to it. A limit is for the time in which
the process could run.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import durable
import durable.testing

DOORS: dict[str, anyio.Event] = {}
RUNG: list[float] = []


class MachineClock:
    """A clock that tells nobody what is done to it, as that of a machine."""

    def __init__(self) -> None:
        self.time = durable.testing.VirtualClock()
        self.sleep, self.watch = self.time.sleep, self.time.watch
        self._stopped_s = 0.0
        self._set_by_s = 0.0

    def now(self) -> float:
        return self.time.now() + self._stopped_s + self._set_by_s

    def steady(self) -> float:
        return self.time.steady() + self._stopped_s

    def set_by(self, seconds: float) -> None:
        """Set the wall clock, forwards or backwards."""
        self._set_by_s += seconds

    def stop(self, seconds: float) -> None:
        """Let time pass in which the process does not run."""
        self._stopped_s += seconds


class Patient(durable.DurableObject):
    """Waits, in each way that has a limit."""

    async def alarm(self) -> None:
        RUNG.append(self.env.CLOCK.now())

    async def ring_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(self.env.CLOCK.now() + seconds)

    async def write(self) -> None:
        self.ctx.storage.put("a", 1)

    async def hold(self) -> str:
        async def section() -> str:
            await DOORS["door"].wait()
            return "held"

        return await self.ctx.block_concurrency_while(section)


@pytest.fixture
def clock() -> MachineClock:
    DOORS.clear()
    RUNG.clear()
    return MachineClock()


@pytest.fixture
def faults() -> durable.testing.Faults:
    return durable.testing.Faults()


@pytest.fixture
async def patient(
    tmp_path: Path, clock: MachineClock, faults: durable.testing.Faults
) -> AsyncIterator[durable.Stub[Patient]]:
    DOORS["door"] = anyio.Event()
    async with durable.testing.open(
        tmp_path, clock=clock, faults=faults, vars={"CLOCK": clock}
    ) as runtime:
        yield runtime.namespace(Patient).get_by_name("a")


@pytest.mark.parametrize("set_by_s", [3_000.0, 3_599.5, 3_600.0, 100_000.0])
async def test_an_alarm_rings_a_second_after_the_clock_was_set_forwards(
    patient: durable.Stub[Patient], clock: MachineClock, set_by_s: float
) -> None:
    """Within a second of its new due time, or of the setting if that is past."""
    await patient.ring_in(3_600)
    due_s = clock.now() + 3_600
    clock.set_by(set_by_s)
    left_s = max(due_s - clock.now(), 0.0)
    if left_s > 1:
        await clock.time.advance(left_s - 1)
        assert RUNG == []
        await clock.time.advance(2)
    await clock.time.advance(1)

    assert len(RUNG) == 1
    assert RUNG[0] >= due_s


async def test_an_alarm_rings_a_second_after_its_time_when_the_clock_was_set_backwards(
    patient: durable.Stub[Patient], clock: MachineClock
) -> None:
    """And not at the moment at which it would have rung."""
    await patient.ring_in(60)
    due_s = clock.now() + 60
    clock.set_by(-600)
    await clock.time.advance(659)
    assert RUNG == []

    await clock.time.advance(2)
    assert due_s <= RUNG[0] <= due_s + 1


async def test_an_alarm_that_fell_due_while_the_process_was_stopped_rings_when_it_goes_on(
    patient: durable.Stub[Patient], clock: MachineClock
) -> None:
    """Its time is not put off by the pause."""
    await patient.ring_in(30)
    clock.stop(60)
    await clock.time.advance(1)

    assert len(RUNG) == 1


async def test_a_pause_does_not_put_off_an_alarm_that_is_not_due(
    patient: durable.Stub[Patient], clock: MachineClock
) -> None:
    """What is left of its time is what passes."""
    await patient.ring_in(90)
    due_s = clock.now() + 90
    clock.stop(60)
    await clock.time.advance(29)
    assert RUNG == []

    await clock.time.advance(2)
    assert due_s <= RUNG[0] <= due_s + 1


async def outcome(call: Any, ended: list[Any]) -> None:
    try:
        ended.append(await call)
    except durable.DurableError as error:
        ended.append(type(error))


async def test_a_section_is_not_reset_by_a_pause_of_the_process(
    patient: durable.Stub[Patient], clock: MachineClock
) -> None:
    """Its limit is for the time in which it could have gone on; after that it holds as ever."""
    ended: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcome, patient.hold(), ended)
        await clock.time.advance(10)
        clock.stop(60)
        await clock.time.advance(15)
        assert ended == []

        DOORS["door"].set()
    assert ended == ["held"]


async def test_a_section_is_reset_after_its_limit_whatever_pauses_there_were(
    patient: durable.Stub[Patient], clock: MachineClock
) -> None:
    """A pause is not counted, and neither forgives the rest."""
    ended: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcome, patient.hold(), ended)
        await clock.time.advance(10)
        clock.stop(60)
        await clock.time.advance(22)

    assert ended == [durable.ObjectReset]


async def test_a_commit_is_not_given_up_by_a_pause_of_the_process(
    patient: durable.Stub[Patient], clock: MachineClock, faults: durable.testing.Faults
) -> None:
    """The disk did not have that time either."""
    ended: list[Any] = []
    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            tasks.start_soon(outcome, patient.write(), ended)
            await clock.time.advance(10)
            clock.stop(60)
            await clock.time.advance(15)
            assert ended == []
    assert ended == [None]


@pytest.mark.parametrize("is_noticed", [False, True], ids=["at once", "a while after"])
async def test_a_queue_does_not_grow_old_by_a_pause_of_the_process(
    patient: durable.Stub[Patient], clock: MachineClock, is_noticed: bool
) -> None:
    """What waited through the pause is no reason to refuse what comes after it."""
    ended: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcome, patient.hold(), ended)
        await clock.time.advance(1)
        tasks.start_soon(outcome, patient.write(), ended)
        await clock.time.advance(5)
        clock.stop(60)
        if is_noticed:
            await clock.time.advance(5)
        tasks.start_soon(outcome, patient.write(), ended)
        await clock.time.advance(1)
        assert ended == []

        DOORS["door"].set()
    assert sorted(ended, key=str) == [None, None, "held"]


@pytest.mark.parametrize("year", [2020, 2040])
async def test_the_system_clock_is_the_time_that_the_program_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    """Libraries that freeze the time in tests put a clock of theirs in the place of `time.time`."""
    frozen = datetime(year, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(time, "time", frozen.timestamp)
    async with durable.open(tmp_path, vars={"CLOCK": durable.SystemClock()}) as runtime:
        stub = runtime.namespace(Patient).get_by_name("a")
        RUNG.clear()
        await stub.ring_in(3_600)
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        assert RUNG == []
        monkeypatch.setattr(time, "time", (frozen + timedelta(hours=1)).timestamp)
        with anyio.fail_after(10):
            while not RUNG:
                await anyio.sleep(0.01)

    assert [(frozen + timedelta(hours=1)).timestamp()] == RUNG
