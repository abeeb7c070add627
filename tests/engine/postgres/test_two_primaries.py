"""A standby has taken the place of a primary that lives on: paused for a while, or cut off from it.

Such a primary confirms nothing any more, since no standby follows it. But it would answer what only
reads, with what it had when it was the primary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from durable._engine.batch import Batch
from durable._model.cluster_errors import StoreUnavailable
from durable._postgres import engine as engine_module
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine
from durable._postgres.opening import init
from tests.standby import Pair

from ..kit import VALUE, Clock, batch_of, place_of
from .kit import claim_all


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


def test_what_a_former_primary_still_answers_is_not_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a connection that was not used since, or a new one."""
    monkeypatch.setattr(engine_module, "READ_S_MAX", 1.0)
    old, new = pair.primary, pair.standby
    name = old.new_database()
    url = f"postgresql://tests@127.0.0.1:{new.port},127.0.0.1:{old.port}/{name}"
    init(url)
    engine = PostgresEngine(url, Clock(), 1, 1_024, claim_all(url, 1), commit_s_max=1.0)
    reader = engine.new_reader()
    try:
        handle = place_of(engine)
        engine.commit([batch_of(engine, handle, {"a": VALUE})])
        assert reader.get(handle.keyspace, "a") == VALUE
        pair.promote()
        try:
            commit_at_last(engine, batch_of(engine, handle, {"b": VALUE}))

            assert reader.get(handle.keyspace, "b") == VALUE
            with (
                closing(Connection(old.url(name), newest=engine.newest)) as former,
                pytest.raises(StoreUnavailable, match="not the primary any more"),
            ):
                former.read("select 1")
        finally:
            old.close()
    finally:
        reader.close()
        engine.close()
