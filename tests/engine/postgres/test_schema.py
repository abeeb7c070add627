"""The tables: how they come to be, and what is said where they are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from durable._model.cluster_errors import StoreUnavailable
from durable._model.database_url import is_url, shown
from durable._model.errors import FormatTooNew, StoreDamaged
from durable._postgres import schema
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine
from tests import postgres

from ..kit import Clock
from .conftest import Open
from .kit import run


def make(url: str) -> bool:
    with closing(Connection(url)) as connection:
        return schema.make(connection)


def open_engine(url: str) -> PostgresEngine:
    return PostgresEngine.open(url, Clock(), 1, {})


def test_the_tables_are_made_once() -> None:
    """Whoever comes second changes nothing."""
    url = postgres.server().url(postgres.server().new_database())
    assert make(url)
    [(identity,)] = run(url, "select value from durable.meta where key = 'store'")
    assert not make(url)

    assert run(url, "select value from durable.meta where key = 'store'") == [(identity,)]
    assert run(url, "select count(*), sum(epoch) from durable.shards") == [(1_024, 0)]
    postgres.server().drop(url)


def test_two_who_make_them_at_once_make_one_store() -> None:
    """One of them waits for the other."""
    url = postgres.server().url(postgres.server().new_database())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, [url] * 4))

    assert sorted(made) == [False, False, False, True]
    postgres.server().drop(url)


def test_a_database_without_a_store_says_what_to_do() -> None:
    """It is not made by being opened: a string that is wrong would make one more."""
    url = postgres.server().url(postgres.server().new_database())
    with pytest.raises(FileNotFoundError, match="durable init"):
        open_engine(url)
    postgres.server().drop(url)


@pytest.mark.parametrize(
    ("said", "error"), [(b"99", FormatTooNew), (b"0", FileNotFoundError), (b"x", StoreDamaged)]
)
def test_a_store_of_another_format_is_not_opened(url: str, said: bytes, error: type) -> None:
    """A later one asks for a later version, an earlier one to be upgraded."""
    run(url, "update durable.meta set value = %s where key = 'format'", said)
    with pytest.raises(error):
        open_engine(url)


def test_what_cannot_be_reached_is_unavailable() -> None:
    """With the server's own words, and without the password."""
    with pytest.raises(StoreUnavailable, match="does not answer") as raised:
        open_engine("postgresql://user:secret@127.0.0.1:1/app?connect_timeout=2")

    assert raised.value.retryable
    assert "secret" not in str(raised.value)


def test_no_two_processes_are_given_one_keyspace(opens: Open) -> None:
    """However many each takes."""
    first, second = opens(), opens()
    given = [engine.next_keyspace() for _ in range(2_500) for engine in (first, second)]

    assert len(set(given)) == 5_000
    assert min(given) > 0


def test_a_password_is_not_shown() -> None:
    """Wherever it stands in the URL."""
    assert shown("postgresql://u:p@h/d") == "postgresql://u:***@h/d"
    assert shown("postgresql://h/d?user=u&password=p&x=1") == (
        "postgresql://h/d?user=u&password=***&x=1"
    )
    assert shown("postgresql://u@h:5/d") == "postgresql://u@h:5/d"
    assert [is_url(path) for path in ("postgresql://h/d", "postgres://h", "state", "./x")] == [
        *(True, True, False, False)
    ]
