"""A database that says nothing, and a network that stays connected and passes nothing on: no packet
reports that. Each wait for it has a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from durable._engine.batch import ObjectHandle
from durable._model.cluster_errors import StoreUnavailable
from durable._postgres import connection, engine, opening
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine
from tests.cables import Cable

from ..kit import VALUE, Clock, batch_of, place_of, stored
from .kit import claim_all

SILENCE_S_MAX = 0.2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "READ_S_MAX", SILENCE_S_MAX)
    monkeypatch.setattr(connection, "LONG_SILENCE_S_MAX", SILENCE_S_MAX)


@pytest.fixture
def cable(url: str) -> Iterator[Cable]:
    with closing(Cable(url.partition("@")[2].partition("/")[0])) as cable:
        yield cable


@pytest.fixture
def url_by_cable(url: str, cable: Cable) -> str:
    return f"postgresql://tests@{cable.address}/{url.rpartition('/')[2]}"


@pytest.fixture
def store(url: str, url_by_cable: str) -> Iterator[PostgresEngine]:
    opened = PostgresEngine(
        url_by_cable, Clock(), 1, 1_024, claim_all(url, 1), commit_s_max=SILENCE_S_MAX
    )
    with closing(opened):
        yield opened


def _put(store: PostgresEngine, handle: ObjectHandle) -> Any:
    return store.commit([batch_of(store, handle, {"b": VALUE})])


@pytest.mark.parametrize(
    "does",
    [
        pytest.param(lambda store, handle: store.wake(1, handle.base), id="wake"),
        pytest.param(lambda store, handle: store.in_line.get(handle.keyspace, "a"), id="read"),
        pytest.param(
            lambda store, handle: store.new_reader().get(handle.keyspace, "a"),
            id="read by its thread",
        ),
        pytest.param(lambda store, handle: store.measure(), id="measure"),
        pytest.param(_put, id="commit"),
    ],
)
def test_a_silent_network_is_reported_in_time(
    store: PostgresEngine, cable: Cable, does: Callable[[PostgresEngine, ObjectHandle], Any]
) -> None:
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    cable.is_cut = True
    with pytest.raises(StoreUnavailable, match=r"said nothing|timeout"):
        does(store, handle)


def test_a_commit_that_was_not_answered_is_settled_when_the_network_is_back(
    store: PostgresEngine, cable: Cable
) -> None:
    """Its outcome is unknown: nothing is read and written in its shard before it is known."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    cable.is_cut = True
    with pytest.raises(StoreUnavailable, match="not known"):
        _put(store, handle)
    with pytest.raises(StoreUnavailable):
        store.wake(handle.class_number, handle.base)
    cable.is_cut = False
    cable.break_()
    store._reading._rests_until = 0.0

    assert store.wake(handle.class_number, handle.base) is not None
    _put(store, place_of(store))
    assert stored(store, place_of(store)) == {"a": VALUE, "b": VALUE}


def test_a_silent_database_is_not_asked_again_at_once(store: PostgresEngine, cable: Cable) -> None:
    """The event loop asks, and has other work."""
    handle = place_of(store)
    cable.is_cut = True
    with pytest.raises(StoreUnavailable, match=r"said nothing for 0\.2 s"):
        store.wake(1, handle.base)
    with pytest.raises(StoreUnavailable, match="said nothing just now"):
        store.wake(1, handle.base)


def test_a_store_is_not_opened_where_nothing_is_said(cable: Cable, url_by_cable: str) -> None:
    cable.is_cut = True
    with pytest.raises(StoreUnavailable, match="timeout"):
        opening.open_to_read(f"{url_by_cable}?connect_timeout=2", Clock())


def test_a_transaction_of_several_statements_ends_too(cable: Cable, url_by_cable: str) -> None:
    def run_two() -> None:
        with closing(Connection(url_by_cable, SILENCE_S_MAX)) as connection:
            with connection.transaction() as run:
                run("select 1")
                cable.is_cut = True
                run("select 1")

    with pytest.raises(StoreUnavailable, match="not known"):
        run_two()


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(
    store: PostgresEngine, url: str
) -> None:
    """The server lives, and says nothing while it waits."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    with closing(Connection(url)) as other, other.transaction() as run:
        run("lock table durable.records")
        with pytest.raises(StoreUnavailable, match=r"said nothing for 0\.2 s"):
            _put(store, handle)
