"""A commit counts when the standby has it, too: one whose wait for that was cancelled is in doubt.

PostgreSQL says only in a warning that it waits no longer: the transaction is committed where it was
made, and a failover may lose it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from durable._model.cluster_errors import StoreUnavailable
from durable._postgres.connection import Connection
from durable._postgres.engine import LOOKING, PostgresEngine
from durable._postgres.keyspaces import take_block
from tests import postgres

from ..kit import VALUE, Clock, batch_of, place_of, stored
from .conftest import Open

_CANCEL = (
    "select pg_cancel_backend(pid) from pg_stat_activity "
    "where datname = current_database() and wait_event = 'SyncRep'"
)


@contextmanager
def standby_is_away(url: str) -> Iterator[None]:
    """The server waits for a standby that is not there, and somebody cancels each such wait in the
    database of *url*."""
    is_over = threading.Event()

    def cancel() -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not is_over.wait(0.01):
                connection.execute(_CANCEL)

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    try:
        _wait_for_standbys("nobody", url)
        yield
    finally:
        try:
            _wait_for_standbys("", url)
        finally:
            is_over.set()
            cancelling.join()


def _wait_for_standbys(names: str, url: str) -> None:
    """Set whom commits wait for, and return when they do."""
    server = postgres.server()
    server.execute(f"alter system set synchronous_standby_names = '{names}'")
    server.execute("select pg_reload_conf()")
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        said: list[str | None] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        connection.execute("create table if not exists tried (place integer)")
        while bool(said) != bool(names):
            said.clear()
            connection.execute("insert into tried values (1)")


def test_a_commit_that_the_standby_does_not_have_is_not_confirmed(opens: Open, url: str) -> None:
    """Its objects begin anew, and are not read before the standby has all of it."""
    engine = opens()
    handle = place_of(engine)
    batch = batch_of(engine, handle, {"a": VALUE})
    with standby_is_away(url):
        with pytest.raises(StoreUnavailable, match="whether that was committed is not known"):
            engine.commit([batch])
        with pytest.raises(StoreUnavailable):
            engine.wake(handle.class_number, handle.base)

    assert engine.wake(handle.class_number, handle.base) is not None
    engine.commit([batch_of(engine, place_of(engine), {"b": VALUE})])
    assert stored(engine, place_of(engine)) == {"a": VALUE, "b": VALUE}


def test_a_keyspace_that_the_standby_does_not_know_is_not_given(url: str) -> None:
    """A standby that takes the primary's place would give it to another object, too."""
    with standby_is_away(url), closing(Connection(url)) as connection:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                take_block(connection)

    with closing(Connection(url)) as connection:
        assert not set(take_block(connection)) & set(take_block(connection))


def test_a_class_that_the_standby_does_not_know_is_not_used(opens: Open, url: str) -> None:
    """Another one would get its number from a standby that takes the primary's place."""
    engine = opens()
    before = engine.catalog()
    after = before.replacing(before.new_class((None, "Counter")))
    with standby_is_away(url):
        for use in (lambda: engine.change_classes(before, after), engine.catalog):
            with pytest.raises(StoreUnavailable):
                use()
        with closing(PostgresEngine.open(url, Clock(), LOOKING, {})) as looking:
            assert looking.catalog() == after

    assert engine.catalog() == after
