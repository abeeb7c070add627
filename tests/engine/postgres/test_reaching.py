"""Of several servers in a URL the primary is found, whatever the others do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from durable._model.clock import SystemClock
from durable._model.cluster_errors import StoreUnavailable
from durable._postgres import reaching
from durable._postgres.connection import Connection
from durable._postgres.newest_primary import NewestPrimary
from durable._postgres.reaching import reach
from tests import postgres
from tests.standby import Pair

PORT: Final = "select current_setting('port')"
# For a server that says nothing, by the URL: it is not waited for.
CONNECT_S: Final = 60


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def url_of(*addresses: str) -> str:
    return f"postgresql://tests@{','.join(addresses)}/postgres?connect_timeout={CONNECT_S}"


def here() -> str:
    return f"127.0.0.1:{postgres.server().port}"


def gone() -> str:
    return f"127.0.0.1:{postgres.free_port()}"


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_that_says_nothing_is_not_waited_for(silent: str, is_first: bool) -> None:
    """Neither by the first connection nor by those that follow, which ask the one that was found
    alone."""
    url = url_of(silent, gone(), here()) if is_first else url_of(here(), silent)
    newest = NewestPrimary()
    began_s = SystemClock.steady()
    for _ in range(3):
        with closing(Connection(url, newest=newest)) as connection:
            assert connection.read(PORT) == [(str(postgres.server().port),)]

    assert SystemClock.steady() - began_s < CONNECT_S / 2


def test_a_standby_or_a_server_that_is_gone_is_passed_over() -> None:
    """Since the standby of a URL's first server has taken its place, for instance."""
    postgres.server()  # skips where there is none
    with closing(Pair()) as pair:
        addresses = [f"127.0.0.1:{each.port}" for each in (pair.standby, pair.primary)]
        with closing(Connection(url_of(gone(), *addresses))) as connection:
            assert connection.read(PORT) == [(str(pair.primary.port),)]


def test_why_no_server_was_reached_is_said_of_each(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a time-out if one of them has said nothing: it is not asked again at once."""
    monkeypatch.setattr(reaching, "CONNECT_S_MAX", 2)
    url, first = f"postgresql://tests@{silent},{gone()}/postgres", silent
    with closing(Connection(url, rests=True)) as connection:
        with pytest.raises(StoreUnavailable, match=rf"{first}: .*timeout.*; 127.*refused"):
            connection.read(PORT)
        with pytest.raises(StoreUnavailable, match="said nothing just now"):
            connection.read(PORT)


def test_after_a_lost_connection_all_servers_are_asked_again() -> None:
    """Another one may be the primary by now; a connection that the found one has still is kept."""
    url, newest = url_of(gone(), here()), NewestPrimary()
    with closing(Connection(url, newest=newest)) as one, closing(Connection(url)) as other:
        one.read(PORT)
        assert newest.place == 1
        other.read("select pg_terminate_backend(%s)", one.read("select pg_backend_pid()")[0])
        with pytest.raises(StoreUnavailable):
            one.write(PORT)
        assert newest.place is None
        one.write(PORT)
        assert newest.place == 1


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("postgresql://one,two:5433,[::1]/app", 3),
        ("postgresql:///app?host=/tmp,/var&port=1,2", 2),
        ("postgresql:///app?host=a,b&hostaddr=127.0.0.1,127.0.0.2&port=1", 2),
        ("postgresql:///app", 1),
        ("postgresql://one/app", 1),
    ],
)
def test_each_server_of_a_url_is_one(url: str, count: int) -> None:
    servers = reaching.servers_of(url)

    assert len(servers) == count


@pytest.mark.parametrize(
    "url", ["postgresql://a,b/app?port=1,2,3", "postgresql://a,b/app?hostaddr=127.0.0.1"]
)
def test_servers_that_do_not_fit_together_are_reported(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="could not match"):
        reach(url, 1.0)
