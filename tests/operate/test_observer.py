"""What happens is told to observers, once, with its times, and to nobody's harm."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

import pytest

import durable
import durable.testing
from durable import observing
from durable.observing import Outcome

from .conftest import Watched, running


async def test_a_delivery_is_told_when_it_comes_and_when_it_ends(watched: Watched) -> None:
    """Each delivery has a DeliveryCame and a DeliveryEnded with the same number."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.fetch("https://worker/")
        await worker.get("x")

    came = watched.of(observing.DeliveryCame)
    ended = watched.of(observing.DeliveryEnded)
    assert [(e.kind, e.method) for e in came] == [("fetch", "fetch"), ("rpc", "get")]
    assert [e.number for e in came] == [e.number for e in ended] == [1, 2]
    assert {e.label for e in came + ended} == {"Worker('a')"}
    assert {e.object_id for e in came} == {str(worker.id)}
    assert {e.outcome for e in ended} == {Outcome.OK}


async def test_the_duration_is_the_handlers(watched: Watched) -> None:
    """From its first step to its end, whatever it waits for."""
    async with watched.open() as runtime:
        async with running(runtime.env.WORKERS.get_by_name("a").sleep(3)):
            await watched.clock.advance(3)

    ended = watched.ended("sleep")
    assert (ended.queued_s, ended.duration_s, ended.commit_wait_s) == (0, 3, 0)


async def test_the_time_in_the_queue_is_told(watched: Watched) -> None:
    """A call that comes while the object is busy is queued, which is no part of its duration."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        async with running(worker.hold_gate(5), worker.get("x")):
            await watched.clock.advance(5)

    ended = watched.ended("get")
    assert (ended.queued_s, ended.duration_s) == (5, 0)


async def test_the_wait_for_the_input_gate_is_told(watched: Watched) -> None:
    """Code that could go on and waits for others of its object waits for the gate."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        async with running(worker.sleep(1)):
            await watched.clock.advance(0.5)
            async with running(worker.hold_gate(2)):
                await watched.clock.advance(5)

    ended = watched.ended("sleep")
    assert (ended.gate_wait_s, ended.duration_s) == (1.5, 2.5)


async def test_the_wait_for_the_disk_is_told(watched: Watched) -> None:
    """An answer that waits for its commit does so after the handler's end."""
    async with watched.open() as runtime:
        with watched.faults.hold_commits():
            async with running(runtime.env.WORKERS.get_by_name("a").put("x", 1)):
                await watched.clock.advance(4)

                assert not watched.of(observing.DeliveryEnded)

                watched.faults.let_one_commit()

    ended = watched.ended("put")
    assert (ended.duration_s, ended.commit_wait_s) == (0, 4)


async def test_a_commit_is_told_with_its_batches(watched: Watched) -> None:
    """A group of turns is one commit."""
    async with watched.open() as runtime:
        workers = [runtime.env.WORKERS.get_by_name(name) for name in "abc"]
        with watched.faults.hold_commits():
            async with running(*(worker.put("x", 1) for worker in workers)):
                await watched.clock.settle()
                watched.faults.let_one_commit()
                watched.faults.let_one_commit()
        await watched.clock.settle()

    commits = watched.of(observing.CommitEnded)
    assert sum(commit.batches for commit in commits) == 3
    assert all(commit.error is None and commit.size > 0 for commit in commits)


async def test_a_failed_commit_is_told(watched: Watched) -> None:
    """The commit says why it failed, the object that it broke, and the delivery was reset."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        watched.faults.fail_commits()
        with pytest.raises(durable.DurableError):
            await worker.put("x", 1)
        watched.faults.repair()

    (commit,) = watched.of(observing.CommitEnded)
    (broken,) = watched.of(observing.ObjectBroken)
    assert commit.error is not None
    assert broken.label == "Worker('a')"
    assert broken.reason in commit.error
    assert watched.ended("put").outcome is Outcome.RESET


async def test_what_the_object_raises_is_an_error(watched: Watched) -> None:
    """The outcome tells the object's own errors from those of the library."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        with pytest.raises(LookupError):
            await worker.fail()
        with pytest.raises(durable.ObjectAborted):
            await worker.give_up()

    assert watched.ended("fail").outcome is Outcome.ERROR
    assert watched.ended("fail").error == "LookupError: not here"
    assert watched.ended("give_up").outcome is Outcome.RESET
    (broken,) = watched.of(observing.ObjectBroken)
    assert (broken.error, broken.reason) == ("ObjectAborted", "enough")


async def test_overload_is_told(watched: Watched) -> None:
    """A call that finds the queue full is told as Overloaded, and as ended."""
    async with watched.open(limits=durable.Limits(queued_deliveries_max=1)) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.sleep(0)
        calls = [worker.hold_gate(1), worker.get("x"), worker.get("y")]
        with pytest.raises(durable.ObjectOverloaded):
            await calls[2]
        async with running(*calls[:2]):
            await watched.clock.advance(1)

    (overloaded,) = watched.of(observing.Overloaded)
    assert (overloaded.method, overloaded.queued) == ("get", 1)
    outcomes = [e.outcome for e in watched.of(observing.DeliveryEnded) if e.method == "get"]
    assert sorted(outcomes) == [Outcome.OK, Outcome.OVERLOADED]


async def test_an_alarm_is_told_with_how_late_it_is(watched: Watched) -> None:
    """AlarmRang comes when the handler begins."""
    async with watched.open() as runtime:
        await runtime.env.WORKERS.get_by_name("a").set_alarm(60)
        await watched.clock.advance(60)

    (rang,) = watched.of(observing.AlarmRang)
    assert (rang.retry_count, rang.late_s) == (0, 0)
    assert rang.scheduled_time.timestamp() == watched.clock.start_s + 60
    assert watched.ended("alarm").kind == "alarm"


async def test_waking_and_evicting_are_told(watched: Watched) -> None:
    """An object is woken before its first event, and evicted when nobody needs it."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.get("x")
        await durable.testing.evict(worker)
        await worker.get("x")

    kinds = [type(e) for e in watched.told if not isinstance(e, observing.DeliveryCame)]
    assert kinds == [
        observing.ObjectWoken,
        observing.DeliveryEnded,
        observing.ObjectEvicted,
        observing.ObjectWoken,
        observing.DeliveryEnded,
    ]


async def test_a_turn_that_keeps_the_loop_is_told(watched: Watched) -> None:
    """Code that computes for long lets nobody else run, which is worth knowing."""
    async with watched.open() as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.compute(observing.SLOW_TURN_S_MIN / 2)
        await worker.compute(observing.SLOW_TURN_S_MIN * 2)

    (slow,) = watched.of(observing.TurnTookLong)
    assert (slow.method, slow.duration_s) == ("compute", observing.SLOW_TURN_S_MIN * 2)


async def test_a_call_from_object_to_object_knows_its_caller(watched: Watched) -> None:
    """The caller of a call is told, and what an observer sets when a delivery comes goes on with
    the calls that its handler makes."""
    path: ContextVar[tuple[str, ...]] = ContextVar("path", default=())
    seen: list[tuple[str, ...]] = []

    def follow(event: Any) -> None:
        watched.told.append(event)
        if isinstance(event, observing.DeliveryCame):
            path.set((*path.get(), f"{event.name}.{event.method}"))
            seen.append(path.get())

    async with watched.open(observer=follow) as runtime:
        one = runtime.env.WORKERS.get_by_name("one")
        await one.relay("two", "relay", "three", "get", "x")

    assert seen[-1] == ("one.relay", "two.relay", "three.get")
    assert path.get() == ()
    (called,) = [e for e in watched.of(observing.DeliveryEnded) if e.name == "two"]
    assert called.caller == str(one.id)


async def test_an_observer_that_raises_is_logged_and_harms_nobody(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is answered as if nobody observed."""

    def bad(event: Any) -> None:
        raise RuntimeError("an observer's own fault")

    async with watched.open(observer=bad) as runtime:
        with caplog.at_level(logging.CRITICAL, "durable"):
            worker = runtime.env.WORKERS.get_by_name("a")
            await worker.put("x", 1)
            assert await worker.get("x") == 1
        with caplog.at_level(logging.ERROR, "durable"):
            await worker.get("x")

    assert "failed on DeliveryCame" in caplog.text
    assert "an observer's own fault" in caplog.text


async def test_observing_may_begin_and_end_while_the_program_runs(watched: Watched) -> None:
    """Whoever begins late is told of what comes later, and nobody of what comes after the end."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.get("before")
        async with running(worker.sleep(1)):
            await watched.clock.settle()
            end = runtime.observe(watched.told.append)
            await worker.get("meanwhile")
            await watched.clock.advance(1)
        end()
        await worker.get("after")
        await runtime.env.WORKERS.get_by_name("b").get("after")

    assert [e.method for e in watched.of(observing.DeliveryEnded)] == ["get"]


async def test_what_is_no_callable_is_refused(watched: Watched) -> None:
    """A wrong observer is said at the call, not at the first event."""
    with pytest.raises(TypeError, match="callable"):
        durable.open(watched.folder, observer="print")  # type: ignore[arg-type]


async def test_resets_are_logged_with_the_objects_name(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """The logger is called "durable", and says class and name."""
    async with watched.open(observer=None) as runtime:
        with caplog.at_level(logging.WARNING, "durable"):
            with pytest.raises(durable.ObjectAborted):
                await runtime.env.WORKERS.get_by_name("a").give_up()

    assert [record.name for record in caplog.records] == ["durable"]
    assert "Worker('a') was reset: enough" in caplog.text
    assert vars(caplog.records[0])["object_class"] == "Worker"
    assert vars(caplog.records[0])["object_name"] == "a"
    assert len(vars(caplog.records[0])["object_id"]) == 64
