"""Leases on a real PostgreSQL: who lives, who owns what, and who is superseded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from durable._engine.shards import Process
from durable._model.cluster_errors import StoreUnavailable
from durable._model.errors import StoreInUse
from durable._postgres import lease_statements
from durable._postgres import leases as leases_module
from durable._postgres import machine as machine_module
from durable._postgres.connection import Connection
from durable._postgres.leases import Leases
from durable._postgres.machine import is_gone, this_machine
from tests.postgres import server, store_url


class Clock:
    """A process's own clock, which a test sets forward: as if it had been stopped."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Processes:
    """The processes of one store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.all: list[Leases] = []

    def join(self, name: str, lease_s: float = 60.0, **more: Any) -> Leases:
        options = {"pid": os.getpid(), "address": f"{name}:7070", "version": "1", **more}
        machine = options.pop("machine", this_machine())
        me = Process(name, **options)
        leases = Leases(self.url, me, lease_s, Clock(), machine)
        self.all.append(leases)
        leases.join()
        return leases

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return server().execute(sql, self.url.rpartition("/")[2])

    def expire(self, leases: Leases) -> None:
        """Let the lease of a process run out, by the clock of the database."""
        self.execute(
            f"update durable.processes set expires = clock_timestamp() - interval '1 s' "
            f"where id = {leases.number}"
        )


@pytest.fixture
def processes() -> Iterator[Processes]:
    with ExitStack() as stack:
        processes = Processes(stack.enter_context(store_url()))
        stack.callback(lambda: [leases.leave() for leases in processes.all])
        yield processes


def test_processes_see_each_other(processes: Processes) -> None:
    one = processes.join("one")
    other = processes.join("other", state="ready")
    one.refresh()

    assert one.processes() == [other.me, one.me]
    assert one.is_alive("other")
    other.leave()
    one.refresh()
    assert not one.is_alive("other")


def test_shards_are_claimed_many_at_once_and_by_one_process(processes: Processes) -> None:
    one, other = processes.join("one"), processes.join("other")

    first = one.claim(range(1_000))
    assert first.keys() == set(range(1_000))
    assert other.claim([998, 999, 1_000]).keys() == {1_000}
    other.refresh()
    assert other.owners()[999].owner == "one"
    assert other.owners()[1_000].owner == "other"
    assert other.owners()[1_001].owner is None
    assert one.release([7, 8, 1_000]) == {7: first[7], 8: first[8]}
    again = other.claim([7, 8])
    assert again[7] > first[7]
    assert again[8] > first[8]


def test_a_release_that_comes_late_frees_nothing_that_was_claimed_again(
    processes: Processes,
) -> None:
    """Its connection was lost, and it is carried out when the process has the shard anew: another
    one would have it too, while this one believes in its lease."""
    one, other = processes.join("one"), processes.join("other")
    first = one.claim([1])
    late = [[1], [first[1]], one.number]
    one.release([1])
    again = one.claim([1])
    assert again.keys() == {1}
    one._claiming.write(lease_statements.RELEASE, late)

    assert other.claim([1]) == {}
    assert one.release([1]) == again


def test_a_process_that_could_not_join_to_the_end_claims_nothing(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will join once more, under another number, and what it claimed under this one it would
    believe to own for ever."""
    one = processes.join("one")
    with monkeypatch.context() as patch:
        patch.setattr(one, "_renewing", Connection("postgresql://127.0.0.1:1/nowhere"))
        with pytest.raises(StoreUnavailable):
            one.join()
    assert one.claim([1]) == {}

    one.join()
    assert one.claim([1]).keys() == {1}


def test_a_renewal_of_a_lease_that_is_over_does_not_end_the_next_one(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread waits for the database, and hears nothing until the process has joined again."""
    one = processes.join("one")
    renews, may_fail = threading.Event(), threading.Event()

    def lost(_: Leases) -> None:
        renews.set()
        assert may_fail.wait(30)
        raise StoreUnavailable("the database went away")

    monkeypatch.setattr(Leases, "_release_some", lost)
    over: list[str] = []
    one.start(lambda: None, lambda: over.append("over"))
    former = one._thread
    assert former is not None
    one.look_soon()
    assert renews.wait(30)
    one.lease.end()
    one.join()
    may_fail.set()
    former.join(30)

    assert not former.is_alive()
    assert one.lease.is_valid()
    assert over == []


def test_two_that_claim_at_once_get_different_shards(processes: Processes) -> None:
    """Of each shard one of them is the owner."""
    claimed: list[dict[int, int]] = []
    all_of_them = [processes.join(f"process {number}") for number in range(4)]
    threads = [
        threading.Thread(target=lambda each=each: claimed.append(each.claim(range(256))))
        for each in all_of_them
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(map(len, claimed)) == 256
    assert set().union(*claimed) == set(range(256))


def test_a_lease_that_has_run_out_is_not_revived(processes: Processes) -> None:
    lost: list[str] = []
    one = processes.join("one")
    one._on_lost = lambda: lost.append("one")
    processes.expire(one)
    one.refresh()

    assert lost == ["one"]
    assert not one.lease.is_valid()
    one.refresh()
    assert lost == ["one"]


def test_the_shards_of_the_dead_are_claimed(processes: Processes) -> None:
    """With a higher epoch; not before the lease has run out."""
    one = processes.join("one", machine="elsewhere")
    other = processes.join("other")
    first = one.claim([1, 2])
    other.refresh()
    assert other.claim([1, 2]) == {}
    processes.expire(one)
    other.refresh()

    again = other.claim([1, 2, 3])
    assert again.keys() == {1, 2, 3}
    assert min(again.values()) > max(first.values())
    assert not other.is_alive("one")
    assert one.claim([4]) == {}


def test_a_claim_waits_for_a_renewal_in_flight(processes: Processes) -> None:
    """A lease that runs out while its renewal is on its way, as one that waits for the standby."""
    one = processes.join("one", machine="elsewhere")
    other = processes.join("other")
    one.claim([1])
    processes.expire(one)
    other.refresh()
    with psycopg.connect(processes.url) as renewal:
        renewal.execute(
            "update durable.processes set expires = clock_timestamp() + interval '60 s' "
            "where id = %s",
            [one.number],
        )
        claimed: list[dict[int, int]] = []
        claim = threading.Thread(target=lambda: claimed.append(other.claim([1])))
        claim.start()
        while not processes.execute(
            "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = "
            "current_database()"
        ):
            assert claim.is_alive()
        assert not claimed
    claim.join()

    assert claimed == [{}]


def test_an_owner_that_joined_since_is_no_dead_one(processes: Processes) -> None:
    """Although the claimer has not read of it yet."""
    other = processes.join("other")
    one = processes.join("one")
    one.claim([1])

    assert other.claim([1]) == {}


def test_a_process_that_joins_again_takes_the_database_as_it_is(processes: Processes) -> None:
    """A backup may have been put back: its timeline may be older than one that was seen."""
    one = processes.join("one")
    one.newest.accepts(99)
    with pytest.raises(StoreUnavailable):
        one.refresh()
    one.lease.end()
    one.join()

    assert one.claim([1]).keys() == {1}


def test_a_process_that_was_killed_here_is_dead_at_once(processes: Processes) -> None:
    """Its machine says so; on another machine the lease runs out."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = processes.join("here", pid=child.pid)
    elsewhere = processes.join("elsewhere", pid=child.pid, machine="another")
    other = processes.join("other")
    here.claim([1])
    elsewhere.claim([2])
    other.refresh()
    assert other.claim([1, 2]) == {}
    assert not is_gone(child.pid, this_machine())
    child.kill()
    child.communicate()

    assert is_gone(child.pid, this_machine())
    assert other.claim([1, 2]).keys() == {1}


def test_a_process_that_proc_does_not_show_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one of another user, which `hidepid`, or systemd's ProtectProc, hides."""
    (tmp_path / "self").symlink_to(str(os.getpid()))
    monkeypatch.setattr(machine_module, "_PROC", tmp_path)

    assert not is_gone(os.getppid(), this_machine())


def test_a_process_is_not_dead_since_proc_shows_those_of_another_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead one there may have its number."""
    (tmp_path / "self").symlink_to("1")
    of_another = tmp_path / str(os.getppid())
    of_another.mkdir()
    (of_another / "stat").write_text(f"{os.getppid()} (python) Z 1 1 1")
    monkeypatch.setattr(machine_module, "_PROC", tmp_path)

    assert not is_gone(os.getppid(), this_machine())


def test_a_process_that_is_to_be_alone_is_alone(processes: Processes) -> None:
    alone = processes.join("alone", is_alone=True)
    with pytest.raises(StoreInUse) as caught:
        processes.join("other")
    assert caught.value.pid == os.getpid()
    alone.leave()
    processes.join("other")
    with pytest.raises(StoreInUse):
        processes.join("alone again", is_alone=True)


def test_a_process_joins_anew_under_another_number(processes: Processes) -> None:
    one = processes.join("one", machine="elsewhere")
    one.claim([1])
    processes.expire(one)
    again = processes.join("one again")

    assert again.number != one.number
    assert again.claim([1]).keys() == {1}


def test_what_a_lost_claim_has_given_is_not_given_again(processes: Processes) -> None:
    """A standby without the last two claims has taken the primary's place: neither the number of a
    process that has joined since nor the epoch of a claim is another one's there."""
    one = processes.join("one")
    known = one.claim([1])
    lost = processes.join("lost")
    one.release([1])
    of_lost = lost.claim([1])
    lost.release([1])
    later = one.claim([1])
    processes.execute(f"delete from durable.processes where id = {lost.number}")
    processes.execute(f"alter table durable.processes alter column id restart with {lost.number}")
    processes.execute(f"update durable.shards set epoch = {known[1]} where shard = 1")
    other = processes.join("other")
    one.release([1])
    anew = other.claim([1])

    assert other.number not in {one.number, lost.number}
    assert anew[1] > max(of_lost[1], later[1])


def test_the_lease_is_renewed_in_a_thread(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes meanwhile is told."""
    news = threading.Event()
    one = processes.join("one", lease_s=0.3)
    one.now = one.lease.now = leases_module.lease_clock
    one.refresh()
    one.start(news.set, lambda: None)
    until = one.valid_until
    processes.join("other")
    assert news.wait(10)
    while one.valid_until <= until:
        news.wait(0.01)

    assert one.is_alive("other")


def test_a_lease_is_over_when_the_database_does_not_answer_in_time(processes: Processes) -> None:
    lost = threading.Event()
    one = processes.join("one", lease_s=0.3)
    one.now = one.lease.now = leases_module.lease_clock
    one.refresh()
    one._renewing.url = "postgresql://127.0.0.1:1/nothing"
    one._renewing._drop()
    one.start(lambda: None, lost.set)

    assert lost.wait(10)
    assert one.lease.is_over
