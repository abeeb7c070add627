"""A standby has taken the place of a primary that lives on: paused for a while, or cut off from it.

Such a primary confirms nothing any more, since no standby follows it. But it would answer what only
reads, with what it had when it was the primary.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import pytest

from durable._engine.batch import Batch
from durable._model.cluster_errors import StoreUnavailable
from durable._postgres import engine as engine_module
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine
from durable._postgres.newest_primary import NewestPrimary
from durable._postgres.opening import init
from tests.standby import Pair

from ..kit import VALUE, Clock, batch_of, place_of
from .kit import claim_all

PORT: Final = "select current_setting('port')"


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    try:
        yield pair
    finally:
        pair.close()


def commit_at_last(engine: PostgresEngine, batch: Batch) -> None:
    """Commit at the new primary; before, a commit and its settlement wait for the old standby."""
    until_s = time.monotonic() + 20
    while True:
        try:
            engine.commit([batch])
        except StoreUnavailable:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        else:
            return


@contextmanager
def served(pair: Pair, monkeypatch: pytest.MonkeyPatch, *, old_is_first: bool) -> Iterator[str]:
    """The URL of a store that both servers have, of which a read that is not answered ends soon."""
    monkeypatch.setattr(engine_module, "READ_S_MAX", 1.0)
    name = pair.primary.new_database()
    ports = [pair.primary.port, pair.standby.port]
    first, last = ports if old_is_first else reversed(ports)
    url = f"postgresql://tests@127.0.0.1:{first},127.0.0.1:{last}/{name}"
    init(url)
    yield url


@pytest.mark.parametrize("old_is_first", [True, False])
def test_what_a_former_primary_still_answers_is_not_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, old_is_first: bool
) -> None:
    """By a connection that was not used since, or a new one, wherever the URL names it; the other
    server is found."""
    old = pair.primary
    with served(pair, monkeypatch, old_is_first=old_is_first) as url, ExitStack() as stack:
        name = url.rpartition("/")[2]
        engine = PostgresEngine(url, Clock(), 1, 1_024, claim_all(url, 1), commit_s_max=1.0)
        stack.callback(engine.close)
        reader = engine.new_reader()
        stack.callback(reader.close)
        handle = place_of(engine)
        engine.commit([batch_of(engine, handle, {"a": VALUE})])
        assert reader.get(handle.keyspace, "a") == VALUE
        pair.promote()
        stack.callback(old.close)
        commit_at_last(engine, batch_of(engine, handle, {"b": VALUE}))

        assert reader.get(handle.keyspace, "b") == VALUE
        with (
            closing(Connection(old.url(name), newest=engine.newest)) as former,
            pytest.raises(StoreUnavailable, match="not the primary any more"),
        ):
            former.read("select 1")


def test_a_former_primary_that_is_back_is_not_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that has it first in its URL, and by one that is opened since then."""
    old, new = pair.primary, pair.standby
    with (
        served(pair, monkeypatch, old_is_first=True) as url,
        closing(Connection(url, newest=NewestPrimary())) as known,
    ):
        assert known.read(PORT) == [(str(old.port),)]
        pair.promote()
        old.stop()
        try:
            old.start()
            with closing(Connection(url)) as begun:
                assert begun.read(PORT) == [(str(new.port),)]
            assert known.read(PORT) == [(str(new.port),)]
        finally:
            old.close()


def test_a_commit_is_not_waited_for_where_no_standby_follows_any_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, and its outcome is unknown, as soon as another statement has led to the new
    primary."""
    old = pair.primary
    with served(pair, monkeypatch, old_is_first=True) as url, ExitStack() as stack:
        name = url.rpartition("/")[2]
        engine = PostgresEngine(url, Clock(), 1, 1_024, claim_all(url, 1), commit_s_max=600.0)
        stack.callback(engine.close)
        handle = place_of(engine)
        engine.commit([batch_of(engine, handle, {"a": VALUE})])
        pair.promote()
        stack.callback(old.close)
        failures: list[Exception] = []

        def commit() -> None:
            try:
                engine.commit([batch_of(engine, handle, {"b": VALUE})])
            except StoreUnavailable as error:
                failures.append(error)

        committing = threading.Thread(target=commit)
        committing.start()
        while not old.execute("select 1 from pg_stat_activity where wait_event = 'SyncRep'"):
            time.sleep(0.01)
        with closing(Connection(pair.primary.url(name), newest=engine.newest)) as other:
            assert other.read(PORT) == [(str(pair.primary.port),)]
        committing.join(20)

        assert not committing.is_alive()
        assert "not the primary any more" in str(failures)
