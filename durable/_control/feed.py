"""Messages to a client that the loop's thread makes and sends itself, one each period.

A thread that works beside a busy loop waits for the interpreter's lock after each call of the
system, and each change of threads costs the loop more than a message does. So here no thread works:
the loop sends without waiting, and a client that has not taken the last message gets the next one
later.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from attrs import define, field

from durable._model.errors import DurableError
from durable._model.log import log

# A client that has taken nothing for so long is disconnected.
SEND_S_MAX: Final = 30.0

Message = Mapping[str, Any]


class Cancellable(Protocol):
    def cancel(self) -> object: ...


CallLater = Callable[[float, Callable[[], None]], Cancellable]


def line_of(message: Message) -> bytes:
    """*message* as it is sent."""
    return json.dumps(message, default=_plain, ensure_ascii=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@define(eq=False)
class Feed:
    """Sends what *make* returns to *connection* each *period_s*, from `begin` until `end`, both of
    which are for the loop's thread. *prepare* is called first, once a round of the loop for as long
    as it returns True."""

    _connection: socket.socket
    _call_later: CallLater
    _period_s: float
    _make: Callable[[], bytes]
    _prepare: Callable[[], bool] = field(default=lambda: False)
    # Set when the client has gone, or the feed has ended.
    over: threading.Event = field(factory=threading.Event, init=False)
    # Set to True each period by the loop's thread.
    is_served: bool = field(default=True, init=False)
    _rest: bytes = field(default=b"", init=False)  # of a message, for a client that is slow
    _refused: int = field(default=0, init=False)  # periods in which it took nothing
    # Held while something is sent: a thread may have to report that the loop is stuck.
    _sending: threading.Lock = field(factory=threading.Lock, init=False)
    _timer: Cancellable | None = field(default=None, init=False)

    def begin(self) -> None:
        self._connection.setblocking(False)
        self._tick()

    def end(self) -> None:
        self.over.set()
        if self._timer is not None:
            self._timer.cancel()

    def send(self, line: bytes) -> None:
        """Send *line* if the client has taken all before it. From any thread."""
        with self._sending:
            if not self._rest:
                self._rest = line
                self._push()

    def _tick(self) -> None:
        self.is_served = True
        if self.over.is_set():
            return
        try:
            if self._prepare():
                self._timer = self._call_later(0, self._tick)
                return
            with self._sending:
                self._push()
            if not self._rest:
                self.send(self._make())
        except DurableError:
            self.over.set()  # the runtime is closed
        except Exception:
            log.exception("a control request failed")
            self.over.set()
        if not self.over.is_set():
            self._timer = self._call_later(self._period_s, self._tick)

    def _push(self) -> None:
        if not self._rest:
            return
        try:
            sent = self._connection.send(self._rest)
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._refused += 1
            if self._refused * self._period_s >= SEND_S_MAX:
                self.over.set()
        except OSError:
            self.over.set()
        else:
            self._rest = self._rest[sent:]
            self._refused = 0
