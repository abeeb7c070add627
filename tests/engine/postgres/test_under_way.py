"""A commit that was begun and is heard of later: it ends as one that is waited for."""

from __future__ import annotations

import select
from contextlib import closing
from typing import Any, Final

import pytest

from durable._engine.batch import Alarm, Batch, ObjectHandle
from durable._engine.begun import Begins, Begun
from durable._model.cluster_errors import ObjectSuperseded, StoreUnavailable
from durable._postgres.connection import Connection
from durable._postgres.engine import TRIES_MAX, PostgresEngine
from durable._postgres.listening import ListeningConnection
from durable._postgres.postgres_errors import Conflict, Lost

from ..kit import VALUE, batch_of, place_of, stored
from .conftest import Open
from .kit import end_sessions
from .test_standby_is_away import standby_is_away

WAIT_S_MAX = 10.0
# Not by pg_stat_activity, of which a transaction always sees what it saw first.
_END_WAITING: Final = (
    "select pg_terminate_backend(pid) from pg_locks "
    "where relation = 'durable.records'::regclass and not granted"
)


def known_place(engine: PostgresEngine, name: str = "front page") -> ObjectHandle:
    """The place of an object that is stored, and whose row is known."""
    handle = place_of(engine, name)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    return handle


def begin(engine: PostgresEngine, handle: ObjectHandle, key: str = "b") -> Begun:
    begun = engine.begin(batch_of(engine, handle, {key: VALUE}))
    assert begun is not None
    return begun


def hear(begun: Begun) -> None:
    """Wait for the end as an event loop does."""
    while not begun.has_ended(may_wait=False):
        assert select.select([begun.fileno()], [], [], WAIT_S_MAX)[0]


@pytest.mark.parametrize("may_wait", [True, False])
def test_what_was_begun_is_stored_when_it_has_ended(engine: PostgresEngine, may_wait: bool) -> None:
    """Whoever waits for that; and the connection goes on with the next."""
    assert isinstance(engine, Begins)
    handle = known_place(engine)
    for key in ("b", "c"):
        begun = begin(engine, handle, key)
        if may_wait:
            assert begun.has_ended(may_wait=True)
        else:
            hear(begun)
    engine.commit([batch_of(engine, handle, {"d": VALUE})])

    assert stored(engine, handle) == dict.fromkeys("abcd", VALUE)


def test_nothing_is_waited_for_while_the_database_waits(engine: PostgresEngine, url: str) -> None:
    """Another session has locked the table."""
    handle = known_place(engine)
    with closing(Connection(url)) as other, other.transaction() as run:
        run("lock table durable.records")
        begun = begin(engine, handle)
        assert not begun.has_ended(may_wait=False)
        run("select 1")
        assert not begun.has_ended(may_wait=False)
    hear(begun)

    assert stored(engine, handle) == {"a": VALUE, "b": VALUE}


def test_only_values_of_a_known_object_are_begun(engine: PostgresEngine) -> None:
    """What else changes rows, or has to read one first, is left to `commit`; and so is what comes
    while a connection is missing."""
    handle = known_place(engine)
    unread = place_of(engine)
    others: list[Batch] = [
        batch_of(engine, unread, {"b": VALUE}),
        batch_of(engine, handle, {"a": None}),
        batch_of(engine, handle, {"b": VALUE}, alarm=Alarm(5, 5)),
        batch_of(engine, handle, {"b": VALUE}, sides={b"\x01": b"s"}),
        batch_of(engine, handle),
    ]
    assert [engine.begin(batch) for batch in others] == [None] * len(others)
    engine._writing._drop()
    assert engine.begin(batch_of(engine, handle, {"b": VALUE})) is None

    assert stored(engine, handle) == {"a": VALUE}


def test_a_conflict_is_tried_again(engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting, and not for ever."""
    handle = known_place(engine)
    conflicts = TRIES_MAX - 1
    has_ended = Connection.has_ended

    def conflict(connection: Connection, *, may_wait: bool) -> bool:
        nonlocal conflicts
        ended = has_ended(connection, may_wait=may_wait)
        if ended and conflicts:
            conflicts -= 1
            raise Conflict("a deadlock")
        return ended

    monkeypatch.setattr(Connection, "has_ended", conflict)
    hear(begin(engine, handle))
    assert not conflicts
    conflicts = 1_000
    with pytest.raises(Conflict):
        begin(engine, handle, "c").has_ended(may_wait=True)
    monkeypatch.undo()

    engine.commit([batch_of(engine, handle, {"d": VALUE})])
    assert stored(engine, handle).keys() >= {"a", "b", "d"}


def test_a_conflict_is_not_tried_again_without_a_connection(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is stored, and the next commit makes a connection."""
    handle = known_place(engine)

    def conflict(connection: Connection, *, may_wait: bool) -> bool:
        connection.begin_anew()
        raise Conflict("a deadlock")

    monkeypatch.setattr(Connection, "has_ended", conflict)
    begun = begin(engine, handle)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        begun.has_ended(may_wait=True)
    monkeypatch.undo()

    engine.commit([batch_of(engine, handle, {"c": VALUE})])
    assert stored(engine, handle).keys() >= {"a", "c"}


def test_a_process_that_lost_its_shards_stores_nothing_that_it_begins(opens: Open) -> None:
    """The next commit finds out what it owns."""
    old = opens()
    handle = known_place(old)
    opens()
    begun = begin(old, handle)
    with pytest.raises(ObjectSuperseded):
        hear(begun)

    assert old.begin(batch_of(old, handle, {"b": VALUE})) is None
    with pytest.raises(ObjectSuperseded):
        old.commit([batch_of(old, handle, {"b": VALUE})])


def test_a_connection_that_is_lost_meanwhile_leaves_the_outcome_unknown(
    engine: PostgresEngine, url: str
) -> None:
    """It is settled before anything else is read or written."""
    handle = known_place(engine)
    with closing(Connection(url)) as other, other.transaction() as run:
        run("lock table durable.records")
        begun = begin(engine, handle)
        while not run(_END_WAITING):
            assert not begun.has_ended(may_wait=False)
        with pytest.raises(Lost, match="not known"):
            hear(begun)
    assert engine._in_doubt
    assert engine.begin(batch_of(engine, handle, {"c": VALUE})) is None

    engine.commit([batch_of(engine, handle, {"c": VALUE})])
    assert not engine._in_doubt
    assert stored(engine, handle) == {"a": VALUE, "c": VALUE}


@pytest.mark.sessions
def test_a_lost_connection_that_was_idle_loses_nothing_that_is_begun_on_it(
    engine: PostgresEngine,
) -> None:
    """Its outcome is unknown, or it is not begun: `commit` settles that and stores it."""
    handle = known_place(engine)
    end_sessions(engine)
    batch = batch_of(engine, handle, {"b": VALUE})
    try:
        begun = engine.begin(batch)
        if begun is not None:
            begun.has_ended(may_wait=True)
    except StoreUnavailable:
        pass
    assert engine._in_doubt
    engine.commit([batch])

    assert stored(engine, handle) == {"a": VALUE, "b": VALUE}


def test_an_interrupt_while_a_commit_is_sent_leaves_the_connection_to_no_other(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that may come is not taken for that of the next commit."""
    handle = known_place(engine)
    send = ListeningConnection.send

    def interrupted(connection: ListeningConnection, *args: Any) -> None:
        send(connection, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(ListeningConnection, "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.begin(batch_of(engine, handle, {"b": VALUE}))
    monkeypatch.undo()
    assert engine._in_doubt

    engine.commit([batch_of(engine, handle, {"c": VALUE})])
    assert stored(engine, handle).keys() >= {"a", "c"}


def test_a_commit_that_was_begun_and_the_standby_does_not_have_is_not_confirmed(
    engine: PostgresEngine, url: str
) -> None:
    """The warning comes before the answer, perhaps by itself."""
    handle = known_place(engine)
    with standby_is_away(url), pytest.raises(StoreUnavailable, match="is not known"):
        hear(begin(engine, handle))
