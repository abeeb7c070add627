"""A connection of psycopg's that does not wait for ever for a server that says nothing.

The system ends a connection whose peer is gone, if it can know that. It cannot where something
between stays connected and passes nothing on, and a server may keep a statement waiting, for a lock
or a standby. So each wait of the client has a bound of its own, which begins anew with each byte.

Rule: a connection that kept silent is closed, and never used again: its answer may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.generators import execute
from psycopg.pq import Format
from psycopg.pq.abc import PGresult

from durable._model.clock import SystemClock

T = TypeVar("T")


class Silence(psycopg.OperationalError):
    """The server has said nothing for as long as it may."""


class Overtaken(psycopg.OperationalError):
    """Another server has taken its place: what it is asked, it may never confirm."""


class ListeningConnection(psycopg.Connection[Any]):
    """Raises Silence, and is closed, after the server has said nothing for `silence_s_max`, which
    may be changed between two statements; Overtaken as soon as it says nothing and is overtaken."""

    silence_s_max: float
    is_overtaken: Callable[[], bool]
    # What has come so far of an answer that `heard` is asked for.
    _parts: list[PGresult]

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """As psycopg's, which every statement goes through."""
        try:
            bounded = _bounded(gen, self.silence_s_max, self.is_overtaken)
            return super().wait(bounded, *args, **options)
        except (Silence, Overtaken):
            self.pgconn.finish()
            raise

    def send(self, sql: bytes, params: Sequence[bytes], types: Sequence[int]) -> None:
        """Send a query whose *params* are in the server's binary form. Waits for nothing: what the
        socket does not take is sent when the answer is asked for."""
        self._parts = []
        self.pgconn.send_query_params(sql, params, types, [Format.BINARY] * len(params))
        self.pgconn.flush()

    def results(self) -> list[PGresult]:
        """What the server answers to that."""
        rest: list[PGresult] = self.wait(execute(self.pgconn))
        return self._parts + rest

    def heard(self) -> list[PGresult] | None:
        """The same without waiting; None if not all of it has come."""
        pgconn = self.pgconn
        pgconn.flush()
        pgconn.consume_input()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return self._parts
            self._parts.append(result)
        return None


def _bounded(
    gen: Generator[Any, Any, T], silence_s_max: float, is_overtaken: Callable[[], bool]
) -> Generator[Any, Any, T]:
    """*gen*, which yields what it waits for, and is sent what is ready, several times a second
    nothing. A time for which this process was stopped itself counts as one second."""
    now = SystemClock.steady
    silent_s = 0.0
    try:
        wanted = next(gen)
        while True:
            before_s = now()
            ready = yield wanted
            silent_s = 0.0 if ready else silent_s + min(now() - before_s, 1.0)
            if silent_s > silence_s_max:
                raise Silence(f"it said nothing for {silence_s_max:g} s")
            if silent_s and is_overtaken():
                raise Overtaken("it is not the primary any more")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
