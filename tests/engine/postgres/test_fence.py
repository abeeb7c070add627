"""The fence: only the owner of a shard writes it, and what nobody knows is never guessed."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from durable._engine.batch import Alarm, DueAlarm
from durable._engine.shards import shard_of
from durable._model.cluster_errors import ObjectSuperseded, StoreUnavailable
from durable._model.errors import StoreFull
from durable._postgres import keyspaces
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine

from ..kit import VALUE, base_of, batch_of, place_of, stored
from .conftest import Open
from .kit import claim_all, end_sessions, run


def test_a_process_that_lost_its_shards_stores_nothing(opens: Open) -> None:
    """Not a record, not an alarm, not even where it was in the middle of writing."""
    old = opens()
    handle = place_of(old)
    old.commit([batch_of(old, handle, {"a": VALUE})])
    new = opens()
    with pytest.raises(ObjectSuperseded):
        old.commit([batch_of(old, handle, {"a": None, "b": VALUE}, alarm=Alarm(5, 5))])

    assert stored(new, handle) == {"a": VALUE}
    assert new.alarms(count_max=9) == []
    new.commit([batch_of(new, place_of(new), {"b": VALUE})])
    assert stored(new, handle) == {"a": VALUE, "b": VALUE}


def test_a_process_that_lost_its_shards_changes_no_value(opens: Open) -> None:
    """A commit that only writes values of an object that is known goes a shorter way."""
    old = opens()
    handle = place_of(old)
    old.commit([batch_of(old, handle, {"a": VALUE})])
    old.commit([batch_of(old, handle, {"a": VALUE, "b": VALUE})])
    new = opens()
    with pytest.raises(ObjectSuperseded):
        old.commit([batch_of(old, handle, {"b": VALUE, "c": VALUE})])

    assert stored(new, handle) == {"a": VALUE, "b": VALUE}


def test_one_lost_shard_fails_the_group_and_no_other_group(opens: Open, url: str) -> None:
    """What is in one transaction is all stored or not at all."""
    engine = opens()
    lost, kept = place_of(engine, "lost"), place_of(engine, "kept")
    shard = shard_of(lost.base, engine.shards)
    assert shard_of(kept.base, engine.shards) != shard
    run(url, "update durable.shards set owner = 77, epoch = epoch + 1 where shard = %s", shard)
    with pytest.raises(ObjectSuperseded):
        engine.commit([batch_of(engine, kept, {"a": VALUE}), batch_of(engine, lost, {"a": VALUE})])
    assert stored(engine, kept) == {}

    engine.commit([batch_of(engine, place_of(engine, "kept"), {"a": VALUE})])
    assert stored(engine, kept) == {"a": VALUE}


def test_a_claim_waits_for_a_commit_under_way(engine: PostgresEngine, url: str) -> None:
    """So what the new owner reads after its claim has the last commit of the old one."""
    handle = place_of(engine)
    shard = shard_of(handle.base, engine.shards)
    claimed = threading.Event()

    def claim() -> None:
        run(url, "update durable.shards set owner = 9, epoch = epoch + 1 where shard = %s", shard)
        claimed.set()

    with psycopg.connect(url) as commit:
        commit.execute("select from durable.shards where shard = %s for share", [shard])
        thread = threading.Thread(target=claim)
        thread.start()
        waits: list[Any] = []
        while not waits:
            waits = run(url, "select 1 from pg_locks where not granted")
        assert not claimed.is_set()
    thread.join()
    assert claimed.is_set()


@pytest.mark.sessions
def test_a_connection_that_is_lost_leaves_nothing_to_guess(engine: PostgresEngine) -> None:
    """Reads go on by a new one, a commit before its beginning fails at most once; the epoch of its
    shard has risen, so that a transaction in doubt could not follow."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    shard = shard_of(handle.base, engine.shards)
    epoch = engine.owned[shard]
    end_sessions(engine)
    with pytest.raises(StoreUnavailable, match="is not known") as failed:
        engine.commit([batch_of(engine, handle, {"b": VALUE})])

    assert failed.value.retryable
    assert failed.value.reset
    assert stored(engine, handle) == {"a": VALUE}
    assert engine.owned[shard] == epoch + 1
    engine.commit([batch_of(engine, place_of(engine), {"c": VALUE})])
    assert stored(engine, handle) == {"a": VALUE, "c": VALUE}


@pytest.mark.sessions
def test_a_shard_that_went_away_meanwhile_is_not_taken_back(opens: Open) -> None:
    """Raising the epoch of a commit in doubt does so for the owner alone."""
    old = opens()
    handle = place_of(old)
    old.commit([batch_of(old, handle, {"a": VALUE})])
    new = opens()
    end_sessions(old)
    with pytest.raises(StoreUnavailable):
        old.commit([batch_of(old, handle, {"b": VALUE})])
    with pytest.raises(ObjectSuperseded):
        old.commit([batch_of(old, handle, {"b": VALUE})])

    assert stored(new, handle) == {"a": VALUE}


def test_nothing_of_a_history_that_the_database_has_lost_is_written_on(
    opens: Open, url: str
) -> None:
    """A standby that lacks the last two claims has taken the primary's place: the epoch does not
    rise there to the one in which this process believes, while it has objects in memory."""
    engine = opens()
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    shard = shard_of(handle.base, engine.shards)
    news: list[str] = []
    engine.on_superseded = lambda: news.append("superseded")
    engine.own({shard: engine.owned[shard] + 2})
    for _ in range(5):
        with pytest.raises(ObjectSuperseded):
            engine.commit([batch_of(engine, handle, {"b": VALUE})])

    assert shard not in engine.owned
    assert news == ["superseded"]
    engine.own(claim_all(url, engine.process))
    assert stored(engine, place_of(engine)) == {"a": VALUE}


@pytest.mark.sessions
def test_a_claim_beside_the_settlement_of_a_commit_is_kept(
    opens: Open, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask the database, in two threads: what was claimed since the settlement has read stays
    owned."""
    engine = opens()
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    run(url, "update durable.shards set owner = 77, epoch = epoch + 1")
    end_sessions(engine)
    with pytest.raises(StoreUnavailable):
        engine.commit([batch_of(engine, handle, {"b": VALUE})])
    read = Connection.read

    def read_then_claim(self: Connection, sql: Any, params: Any = ()) -> Any:
        rows = read(self, sql, params)
        if "epoch + 1" in sql:
            monkeypatch.undo()
            engine.own(claim_all(url, engine.process))
        return rows

    monkeypatch.setattr(Connection, "read", read_then_claim)
    engine.commit([batch_of(engine, place_of(engine), {"c": VALUE})])

    assert stored(engine, handle) == {"a": VALUE, "c": VALUE}
    assert len(engine.owned) == engine.shards


@pytest.mark.sessions
@pytest.mark.parametrize("was_owned", [True, False])
def test_a_settlement_between_a_claim_and_its_answer_does_no_harm(
    opens: Open, url: str, *, was_owned: bool
) -> None:
    """The claim has committed, and the thread that made it has not said so yet."""
    engine = opens()
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    end_sessions(engine)
    with pytest.raises(StoreUnavailable):
        engine.commit([batch_of(engine, handle, {"b": VALUE})])
    if not was_owned:
        engine.disown_all()
    claimed = claim_all(url, engine.process)
    engine.find(handle.class_number, handle.base)
    engine.own(claimed)

    engine.commit([batch_of(engine, place_of(engine), {"c": VALUE})])
    assert stored(engine, place_of(engine)) == {"a": VALUE, "c": VALUE}


def test_alarms_are_those_of_the_shards_that_are_owned(engine: PostgresEngine) -> None:
    """In the order of their times, however many shards they are of."""
    names = [f"n{n}" for n in range(30)]
    engine.commit(
        [batch_of(engine, place_of(engine, n), alarm=Alarm(i, i)) for i, n in enumerate(names)]
    )
    number = place_of(engine).class_number
    dues = [DueAlarm(i, number, base_of(n)) for i, n in enumerate(names)]
    assert engine.alarms(count_max=99) == dues

    given_up = shard_of(base_of("n7"), engine.shards)
    del engine.owned[given_up]
    mine = [due for due in dues if shard_of(due.base, engine.shards) != given_up]
    assert engine.alarms(count_max=99) == mine
    assert engine.alarms(after=mine[3], count_max=4) == mine[4:8]


def test_a_full_disk_is_told_from_other_failures(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what only deletes can be tried without the rest."""
    handle = place_of(engine)

    def fail(self: object, *args: object, **options: object) -> None:
        raise psycopg.errors.DiskFull("could not extend file: No space left on device")

    batch = batch_of(engine, handle, {"a": VALUE})
    engine.collect_garbage()  # so that it is connected
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "execute", fail)
        with pytest.raises(StoreFull, match="No space left"):
            engine.commit([batch])

    engine.commit([batch])
    assert stored(engine, handle) == {"a": VALUE}


def test_an_object_without_a_keyspace_is_not_stored(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database is away when a new object needs one, its commit fails, and says so."""
    handle = place_of(engine)

    def fail(connection: object) -> range:
        raise StoreUnavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(keyspaces, "take_block", fail)
        batch = batch_of(engine, handle, {"a": VALUE})
    with pytest.raises(StoreUnavailable, match="does not answer"):
        engine.commit([batch])

    engine.commit([batch_of(engine, place_of(engine), {"b": VALUE})])
    assert stored(engine, handle) == {"b": VALUE}
