"""One caller on PostgreSQL: the event loop begins the commit itself, and hears of its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import psycopg
import pytest

import durable
from durable._engine import begun
from durable._engine.committer import Committer
from tests import postgres

from .conftest import Counter

pytestmark = pytest.mark.backends("asyncio", "uvloop", "trio")

WAIT_S_MAX = 10.0


@pytest.fixture
def _in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, no commit is late."""
    monkeypatch.setattr(begun, "LATE_S", WAIT_S_MAX)


class Held:
    """The database's answers to commits are held until `let_go`."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, prepare_threshold=None)
        self._connection.execute("lock table durable.records")

    def waiting(self) -> int:
        """How many commits the database is making."""
        rows = self._connection.execute(
            "select pid from pg_locks where relation = 'durable.records'::regclass and not granted"
        ).fetchall()
        return len(rows)

    async def until_waiting(self) -> None:
        with anyio.fail_after(WAIT_S_MAX):
            while not self.waiting():
                await anyio.sleep(0.001)

    def end_waiting(self) -> None:
        """End the sessions of those commits."""
        self._connection.execute(
            "select pg_terminate_backend(pid) from pg_locks "
            "where relation = 'durable.records'::regclass and not granted"
        )

    def let_go(self) -> None:
        self._connection.rollback()


@contextmanager
def hold(url: str) -> Iterator[Held]:
    held = Held(url)
    try:
        yield held
    finally:
        held._connection.close()


def committer_of(opening: durable.open) -> Committer:
    assert opening._open is not None
    (disk,) = opening._open._disks
    return disk.committer


async def warm(stub: Any, count: int = 2) -> None:
    """The first commit of an object makes its row, on the committer's thread."""
    for _ in range(count):
        await stub.increment()


@pytest.mark.usefixtures("_in_time")
async def test_the_loop_is_free_while_the_database_makes_a_commit(url: str) -> None:
    """Other objects go on; what they write is the next group."""
    answers: list[str] = []

    async def call(name: str) -> None:
        await counters.get_by_name(name).increment()
        answers.append(name)

    opening = durable.open(url, bindings={"COUNTERS": Counter})
    async with opening as runtime, anyio.create_task_group() as calls:
        counters = runtime.env.COUNTERS
        for name in ("first", "second", "third"):
            await warm(counters.get_by_name(name))
        committer = committer_of(opening)
        with hold(url) as held:
            calls.start_soon(call, "first")
            await held.until_waiting()
            assert committer._begun is not None
            calls.start_soon(call, "second")
            calls.start_soon(call, "third")
            for _ in range(20):
                await anyio.sleep(0)
            assert answers == []
            assert committer.waiting >= 2
            assert held.waiting() == 1
            held.let_go()
            with anyio.fail_after(WAIT_S_MAX):
                while len(answers) < 3:
                    await anyio.sleep(0.001)
        assert answers[0] == "first"
        assert await counters.get_by_name("first").increment() == 4


@pytest.mark.usefixtures("_in_time")
async def test_a_single_caller_never_wakes_the_committers_thread(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its object has a row."""
    threads: set[str] = set()
    has_ended = begun.Ear.has_ended

    def note(ear: begun.Ear, *, may_wait: bool) -> bool:
        threads.add(threading.current_thread().name)
        return has_ended(ear, may_wait=may_wait)

    opening = durable.open(url, bindings={"COUNTERS": Counter})
    async with opening as runtime:
        stub = runtime.env.COUNTERS.get_by_name("a")
        await warm(stub)
        monkeypatch.setattr(begun.Ear, "has_ended", note)
        monkeypatch.setattr(Committer, "_put", None)
        assert [await stub.increment() for _ in range(20)] == list(range(3, 23))
        monkeypatch.undo()

    assert threads == {threading.current_thread().name}


async def test_a_late_commit_is_left_to_the_thread(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next ones are the loop's again."""
    monkeypatch.setattr(begun, "LATE_S", 0.01)
    opening = durable.open(url, bindings={"COUNTERS": Counter})
    async with opening as runtime, anyio.create_task_group() as calls:
        stub = runtime.env.COUNTERS.get_by_name("a")
        await warm(stub)
        with hold(url) as held:
            calls.start_soon(stub.increment)
            await held.until_waiting()
            with anyio.fail_after(WAIT_S_MAX):
                while committer_of(opening)._begun is not None:
                    await anyio.sleep(0.001)
            held.let_go()
        assert await stub.increment() == 4
        assert await stub.increment() == 5


@pytest.mark.usefixtures("_in_time")
async def test_a_store_that_is_closed_meanwhile_waits_for_the_commit(url: str) -> None:
    """What was begun is stored."""
    opening = durable.open(url, bindings={"COUNTERS": Counter})
    answers: list[int] = []
    opening = durable.open(url, bindings={"COUNTERS": Counter})
    async with opening as runtime, anyio.create_task_group() as calls:
        stub = runtime.env.COUNTERS.get_by_name("a")
        await warm(stub)

        async def call() -> None:
            answers.append(await stub.increment())

        with hold(url) as held:
            calls.start_soon(call)
            await held.until_waiting()
            letting_go = threading.Timer(0.05, held.let_go)
            letting_go.start()
            await runtime.close()
            letting_go.join()
    assert answers == [3]
    async with durable.open(url, bindings={"COUNTERS": Counter}) as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == 4


@pytest.mark.usefixtures("_in_time")
async def test_a_connection_that_is_lost_meanwhile_resets_the_object(url: str) -> None:
    """Its outcome is settled, and the object goes on with what is stored."""
    async with durable.open(url, bindings={"COUNTERS": Counter}) as runtime:
        counters = runtime.env.COUNTERS
        await warm(counters.get_by_name("a"))

        async def call() -> None:
            with pytest.raises(durable.DurableError, match="not known"):
                await counters.get_by_name("a").increment()

        with hold(url) as held:
            async with anyio.create_task_group() as calls:
                calls.start_soon(call)
                await held.until_waiting()
                held.end_waiting()
            held.let_go()
        assert await counters.get_by_name("a").increment() == 3
        assert await counters.get_by_name("a").increment() == 4


@pytest.mark.sessions
@pytest.mark.usefixtures("_in_time")
async def test_a_database_that_restarts_between_two_calls_is_found_again(url: str) -> None:
    """The loop does not go on listening to a connection that has ended."""
    opening = durable.open(url, bindings={"COUNTERS": Counter})
    async with opening as runtime:
        stub = runtime.env.COUNTERS.get_by_name("a")
        await warm(stub, 4)
        ear = committer_of(opening)._ear
        assert ear is not None
        assert ear._sock is not None
        postgres.server().execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()",
            url.rpartition("/")[2],
        )
        with anyio.fail_after(WAIT_S_MAX):
            while ear._sock is not None:
                await anyio.sleep(0.001)
        with suppress(durable.DurableError):
            await runtime.env.COUNTERS.get_by_name("a").increment()
        value = await runtime.env.COUNTERS.get_by_name("a").increment()
        assert value in {5, 6}
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == value + 1
