"""Reaches the newest primary among the servers that a URL names.

Which one that is changes when a standby takes its primary's place, and the first of them that can
be written to may be a former primary that lives on. So while it is not known which one it is, all
are asked at once: those that refuse, are standbys or say nothing keep none from being found.

Rule: of two primaries the one of the newer timeline is used, wherever the URL names it. One that
answers much later than another is not waited for: it is found when that one confirms nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, cast

import psycopg
from attrs import define, field, frozen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ConnectionTimeout

from durable._model.clock import SystemClock
from durable._model.database_url import shown

from .arrays import let_send_arrays
from .listening import ListeningConnection, Silence
from .newest_primary import NewestPrimary, timeline_of
from .postgres_errors import unavailable

CONNECT_S_MAX: Final = 5
CONNECT_S_MIN: Final = 2  # psycopg takes no less

OTHERS_S_MIN: Final = 0.25
"""How long the others are waited for at least, once a primary is found; else twice as long as that
one has taken."""

# Defaults for what the URL does not say.
DEFAULTS: Final = {
    "application_name": "durable",
    "target_session_attrs": "read-write",  # no standby
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms
}

# Those of what a URL says that may have a value for each server.
_OF_EACH: Final = ("host", "hostaddr", "port")

# What psycopg takes for one of them, in place of what the URL says.
Server = Mapping[str, str]


@frozen
class Reached:
    """A connection, and the place of its server among those that the URL names."""

    connection: ListeningConnection
    place: int = 0
    timeline: int | None = None


def reach(url: str, silence_s_max: float, newest: NewestPrimary | None = None) -> Reached:
    """Connect with the newest primary, for statements to which the server may say nothing for
    *silence_s_max*. Raises StoreUnavailable; ValueError for an invalid URL.

    Without *newest* a server that is the only one is not asked for its timeline."""
    said, servers = _said_of(url), servers_of(url)
    connect_s_max = max(CONNECT_S_MIN, min(int(silence_s_max), CONNECT_S_MAX))
    defaults = {**DEFAULTS, "connect_timeout": str(connect_s_max)}
    options = {name: value for name, value in defaults.items() if name not in said}
    servers = [{**options, **server} for server in servers]
    try:
        if len(servers) > 1:
            newest = NewestPrimary() if newest is None else newest
            reached = _reach_newest(url, servers, newest)
        else:
            reached = _ask(url, servers[0], 0, asks_timeline=newest is not None)
        if newest is not None:
            _check(reached, newest)
    except psycopg.Error as error:
        raise unavailable(shown(url), error) from error
    reached.connection.silence_s_max = silence_s_max
    return reached


def _said_of(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError(f"{shown(url)!r} is not a valid URL of a database: {error}") from error


def servers_of(url: str) -> list[dict[str, str]]:
    """What the URL says of each of its servers alone. Raises ValueError."""
    said = _said_of(url)
    lists = {name: str(said[name]).split(",") for name in _OF_EACH if said.get(name)}
    count = max((len(each) for name, each in lists.items() if name != "port"), default=1)
    if any(
        len(each) != count and (name != "port" or len(each) > 1) for name, each in lists.items()
    ):
        return [{}]  # psycopg says what is wrong
    return [
        {name: each[place if len(each) > 1 else 0] for name, each in lists.items()}
        for place in range(count)
    ]


def _ask(url: str, server: Server, place: int, *, asks_timeline: bool = True) -> Reached:
    """Connect with one server. Raises psycopg.Error."""
    made = ListeningConnection.connect(
        url, autocommit=True, prepare_threshold=None, **cast("dict[str, Any]", server)
    )
    made.silence_s_max, made.is_overtaken = CONNECT_S_MAX, lambda: False
    try:
        timeline = timeline_of(made) if asks_timeline else None
    except BaseException:
        made.close()
        raise
    let_send_arrays(made)
    return Reached(made, place, timeline)


def _check(reached: Reached, newest: NewestPrimary) -> None:
    """Close a connection with a former primary, and raise."""
    if not newest.accepts(reached.timeline):
        reached.connection.close()
        raise psycopg.OperationalError("it is not the primary any more")


def _reach_newest(url: str, servers: Sequence[Server], newest: NewestPrimary) -> Reached:
    """Connect with the server that is known to be the newest primary; else ask all of them."""
    place = newest.place
    if place is not None:
        with suppress(psycopg.Error):
            reached = _ask(url, servers[place], place)
            _check(reached, newest)
            return reached
        newest.doubt(place)
    reached = _Survey(url, servers).newest()
    newest.found(reached.place)
    return reached


@define(eq=False)
class _Survey:
    """Asks all servers at once, each in a thread of its own."""

    _url: str
    _servers: Sequence[Server]
    _answers: SimpleQueue[Reached | tuple[int, Exception]] = field(factory=SimpleQueue, init=False)
    _is_over: bool = field(default=False, init=False)
    # Held so that none is reached behind the end that is not closed.
    _ending: threading.Lock = field(factory=threading.Lock, init=False)

    def newest(self) -> Reached:
        """The primary of the newest timeline; of two, that which the URL names first. Raises
        psycopg.Error if there is none."""
        for place in range(len(self._servers)):
            # A daemon, since a server that says nothing must not keep the program from its end.
            threading.Thread(
                target=self._ask, args=[place], name="durable reaching", daemon=True
            ).start()
        reached: list[Reached] = []
        failures: dict[int, Exception] = {}
        try:
            for answer in self._until_late():
                if isinstance(answer, Reached):
                    reached.append(answer)
                else:
                    place, failures[place] = answer
            if not reached:
                raise self._failure(failures)
            chosen = max(reached, key=lambda each: (each.timeline or 0, -each.place))
            reached.remove(chosen)
        finally:
            self._end(reached)
        return chosen

    def _until_late(self) -> Iterator[Reached | tuple[int, Exception]]:
        """What the servers answer; without those that are late, once a primary has been reached."""
        began_s = SystemClock.steady()
        until_s: float | None = None
        for _ in self._servers:
            left_s = None if until_s is None else max(0.0, until_s - SystemClock.steady())
            try:
                answer = self._answers.get(timeout=left_s)
            except Empty:
                return
            if until_s is None and isinstance(answer, Reached):
                now_s = SystemClock.steady()
                until_s = now_s + max(OTHERS_S_MIN, 2 * (now_s - began_s))
            yield answer

    def _ask(self, place: int) -> None:
        try:
            reached = _ask(self._url, self._servers[place], place)
        except Exception as error:
            self._answers.put((place, error))
            return
        with self._ending:
            if self._is_over:
                reached.connection.close()
            else:
                self._answers.put(reached)

    def _end(self, unused: Iterable[Reached]) -> None:
        for each in unused:
            each.connection.close()
        with self._ending:
            self._is_over = True
        with suppress(Empty):
            while True:
                late = self._answers.get_nowait()
                if isinstance(late, Reached):
                    late.connection.close()

    def _failure(self, failures: Mapping[int, Exception]) -> psycopg.Error:
        """Why none of them was reached; as a time-out if one of them has said nothing."""
        is_silent = any(isinstance(each, ConnectionTimeout | Silence) for each in failures.values())
        return (ConnectionTimeout if is_silent else psycopg.OperationalError)(
            "; ".join(
                f"{_name_of(self._servers[place])}: {error}"
                for place, error in sorted(failures.items())
            )
        )


def _name_of(server: Server) -> str:
    host = server.get("host") or server.get("hostaddr", "")
    return f"{host}:{server['port']}" if server.get("port") else host
