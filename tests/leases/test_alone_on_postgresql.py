"""A store on PostgreSQL that one process has, without peers: by a lease (P1, P19)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from attrs import evolve

import durable
import durable.testing
from durable import operate
from durable._engine.shards import Process
from durable._postgres.leases import Leases
from durable._postgres.machine import this_machine
from durable._postgres.store import PostgresStore
from durable._runtime import engines
from durable._runtime.open_shared import OpenSharedStore
from tests.postgres import server, store_url

pytestmark = pytest.mark.backends("asyncio", "trio")

LIMITS = durable.Limits(shutdown_s_max=1.0, lease_s=60.0)
PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
ANOTHER_MACHINE = "another-boot pid:[1] far-away"


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def value(self) -> int:
        value: int = await self.ctx.storage.get("value", 0)
        return value


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with store_url() as url:
        yield url


def open_store(url: str, **options: Any) -> durable.testing.open:
    options.setdefault("limits", LIMITS)
    return durable.testing.open(url, bindings={"COUNTERS": Counter}, **options)


def execute(url: str, sql: str) -> list[tuple[Any, ...]]:
    return server().execute(sql, url.rpartition("/")[2])


def leases_of(opening: durable.open) -> Leases:
    assert isinstance(opening._open, OpenSharedStore)
    shared = opening._open._disks.shared
    assert isinstance(shared, PostgresStore)
    return shared.leases


def move_elsewhere(url: str) -> None:
    """Let all processes be of another machine, so that their pids say nothing here."""
    execute(url, f"update durable.processes set machine = '{ANOTHER_MACHINE}'")


def expire(url: str) -> None:
    """Let all leases run out, by the clock of the database."""
    execute(url, "update durable.processes set expires = clock_timestamp() - interval '1 s'")


async def test_a_second_one_is_refused_at_once(url: str) -> None:
    """As with a folder; and when the first has closed the store, it is free."""
    async with open_store(url) as first:
        assert await first.env.COUNTERS.get_by_name("a").increment() == 1
        with pytest.raises(durable.StoreInUse) as caught:
            await open_store(url).start()
        assert caught.value.pid == os.getpid()
        assert caught.value.retryable
        assert "`peers` in all processes" in str(caught.value)
        assert await first.env.COUNTERS.get_by_name("a").increment() == 2
    async with open_store(url) as second:
        assert await second.env.COUNTERS.get_by_name("a").increment() == 3


async def test_an_owner_on_another_machine_is_named(url: str) -> None:
    async with open_store(url):
        move_elsewhere(url)
        with pytest.raises(
            durable.StoreInUse, match=f"process {os.getpid()} on far-away"
        ) as caught:
            await open_store(url).start()
        assert caught.value.is_elsewhere


async def test_peers_and_one_that_has_it_alone_keep_each_other_out(url: str) -> None:
    async with open_store(url):
        with pytest.raises(durable.StoreInUse):
            await open_store(url, peers=PEERS).start()
    async with open_store(url, peers=PEERS):
        with pytest.raises(durable.StoreInUse, match=r"at 127\.0\.0\.1:\d+"):
            await open_store(url).start()


async def test_commands_that_change_the_store_are_kept_out_and_those_that_look_are_not(
    url: str,
) -> None:
    clock = durable.testing.VirtualClock()
    async with open_store(url) as runtime:
        await runtime.env.COUNTERS.get_by_name("a").increment()
        with operate.look(url) as store:
            assert [each.name for each in store.objects("Counter")] == ["a"]
        with pytest.raises(durable.StoreInUse):
            engines.open_to_write(url, clock)
        async with open_store(url, scratch=True) as tried:
            assert await tried.env.COUNTERS.get_by_name("a").increment() == 2
    engine = engines.open_to_write(url, clock)
    try:
        with pytest.raises(durable.StoreInUse):
            await open_store(url).start()
    finally:
        engine.close()
    async with open_store(url) as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").value() == 1


async def test_another_one_has_it_when_its_lease_has_run_out(url: str) -> None:
    """P19: the one before, which was stopped, neither stores nor says anything when it goes on. It
    has the store again, as it is by then, when the other one has gone."""
    stopped = open_store(url, limits=evolve(LIMITS, unreachable_s_max=0.1))
    async with stopped as runtime:
        mine = runtime.env.COUNTERS.get_by_name("a")
        assert await mine.increment() == 1
        move_elsewhere(url)
        expire(url)
        async with open_store(url) as other:
            theirs = other.env.COUNTERS.get_by_name("a")
            assert await theirs.increment() == 2
            # As if it had been stopped meanwhile: by its own clock its lease is over.
            leases_of(stopped).lease.valid_until = 0.0
            with pytest.raises(durable.ObjectSuperseded):
                await mine.value()
            again = runtime.env.COUNTERS.get_by_name("a")
            with pytest.raises(durable.ObjectUnreachable, match="was not carried out"):
                await again.increment()
            assert await theirs.increment() == 3
        with anyio.fail_after(30):
            while not leases_of(stopped).lease.is_valid() or not stopped._open._disks.open:
                await anyio.sleep(0.01)
        assert await again.increment() == 4


async def test_one_that_believes_in_its_lease_can_store_nothing_once_another_has_the_store(
    url: str,
) -> None:
    """The epoch refuses it in the database."""
    async with open_store(url) as first:
        mine = first.env.COUNTERS.get_by_name("a")
        assert await mine.increment() == 1
        execute(url, "update durable.shards set owner = 0, epoch = epoch + 1")
        with pytest.raises(durable.ObjectSuperseded):
            await mine.increment()


async def test_one_whose_lease_is_over_does_not_come_back_to_a_store_that_was_moved(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was stopped meanwhile: what it would store and confirm would be nowhere to be found."""
    stopped = open_store(url)
    async with stopped as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == 1
        move_elsewhere(url)
        expire(url)
        mover = engines.open_to_write(url, durable.testing.VirtualClock())
        try:
            engines.mark_as_moved(url, mover, "a folder")
        finally:
            mover.close()
        leases_of(stopped).lease.valid_until = 0.0
        with pytest.raises(durable.ObjectSuperseded):
            await runtime.env.COUNTERS.get_by_name("a").value()
        with anyio.fail_after(30):
            while "was moved to a folder" not in caplog.text:
                await anyio.sleep(0.01)

        assert not stopped._open._disks.open


async def test_a_move_whose_lease_was_over_does_not_take_place(url: str) -> None:
    """Another process may have written since, and that would be lost."""
    mover = engines.open_to_write(url, durable.testing.VirtualClock())
    try:
        expire(url)
        with pytest.raises(durable.DurableError, match="was over before the move was"):
            engines.mark_as_moved(url, mover, "a folder")
    finally:
        mover.close()
    async with open_store(url) as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == 1


async def test_a_process_does_not_come_back_to_another_store(url: str) -> None:
    """The database was made anew meanwhile: its classes are others."""
    shared = engines.open_database(
        url, durable.testing.VirtualClock(), address="here", limits=LIMITS
    )
    shared.join()
    try:
        shared.lose()
        execute(url, "update durable.meta set value = 'another' where key = 'store'")
        with pytest.raises(durable.DurableError, match="another store is in the database"):
            shared.join_again()
    finally:
        shared.leave()


async def test_one_that_was_killed_on_this_machine_is_not_waited_for(url: str) -> None:
    program = (
        "import sys, anyio, durable\n"
        "async def main():\n"
        "    async with durable.open(sys.argv[1]):\n"
        "        print('open', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-c", program, url]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220 - it is short
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    with pytest.raises(durable.StoreInUse) as caught:
        await open_store(url).start()
    assert caught.value.pid == child.pid
    child.send_signal(signal.SIGKILL)
    child.communicate()
    async with open_store(url) as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == 1


async def test_an_opening_can_wait_until_the_store_is_free(url: str) -> None:
    """`wait_s` is for that, as with a folder: here until the lease of a killed one has run out."""
    me = Process("killed", os.getpid(), "", "1", is_alone=True)
    killed = Leases(url, me, 0.4, machine=ANOTHER_MACHINE)
    killed.join()
    async with open_store(url, wait_s=30) as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").increment() == 1
    killed.leave()


def test_the_name_of_this_machine_is_known() -> None:
    """`StoreInUse` gives it to processes of other machines."""
    if this_machine():
        assert this_machine().split(" ")[2] == os.uname().nodename
