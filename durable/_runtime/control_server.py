"""The desk: where `durable tail` and `durable top` ask a running program what it is doing.

It works in threads of its own, so that it can answer while the loop is stuck and say so, and it
observes the runtime only while somebody is there. One line of JSON is asked and lines of JSON are
answered: `{"want": "events"}`, `{"want": "top"}` or `{"want": "statistics"}`. To `{"want":
"folder"}` the answer is the folder itself, for those that cannot lock it where they see it. An
empty line means nothing; it finds out whether the other side is still there.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from durable._control import control_socket
from durable._model.clock import Clock
from durable._model.log import log
from durable._model.observer import Event

from .busiest import Busiest

if TYPE_CHECKING:
    from .runtime import Runtime

T = TypeVar("T")

VISITORS_MAX = 8
EVENTS_WAITING_MAX = 10_000
REQUEST_SIZE_MAX = 4_096
REQUEST_S_MAX = 5.0
SEND_S_MAX = 30.0
BEAT_S = 1.0
LOOP_S_MAX = 2.0


def wants_control_socket() -> bool:
    """Whether the environment of the process asks for one."""
    return os.environ.get("DURABLE_OPERATE", "") not in {"", "0"}


class LoopStuck(Exception):
    """The loop has not come round for `LOOP_S_MAX`."""


class ControlServer:
    """Listens from its making until it is closed. If it cannot, it says so in the log."""

    def __init__(
        self,
        store: str,
        runtime: Runtime,
        clock: Clock,
        call_soon_threadsafe: Callable[[Callable[[], None]], object],
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._clock = clock
        self._call_soon_threadsafe = call_soon_threadsafe
        self._visitors: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            self._listener: socket.socket | None = control_socket.listen(store)
        except OSError as error:
            log.error("durable tail and top cannot see into the store %r: %s", store, error)
            self._listener = None
            return
        self._start(self._listen, self._listener)

    def close(self) -> None:
        """Send everybody away."""
        with self._lock:
            self._is_closed = True
            visitors = list(self._visitors)
        for connection in (self._listener, *visitors):
            if connection is not None:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        if self._listener is not None:
            self._listener.close()
            control_socket.remove(self._store)

    # In threads

    def _start(self, body: Callable[[socket.socket], None], connection: socket.socket) -> None:
        # Daemons, because nobody who looks on may keep the program from its end.
        threading.Thread(target=body, args=(connection,), name="durable desk", daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        while not self._is_closed:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                is_welcome = not self._is_closed and len(self._visitors) < VISITORS_MAX
                if is_welcome:
                    self._visitors.add(connection)
            if is_welcome:
                self._start(self._visit, connection)
            else:
                connection.close()

    def _visit(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(REQUEST_S_MAX)
                with connection.makefile("rb") as lines:
                    asked = json.loads(lines.readline(REQUEST_SIZE_MAX))
                connection.settimeout(SEND_S_MAX)
                self._answer(connection, asked)
        except (OSError, ValueError, LoopStuck):
            pass  # gone, or no visitor of ours
        except Exception:
            log.exception("a visitor's wish could not be fulfilled")
        finally:
            with self._lock:
                self._visitors.discard(connection)

    def _answer(self, connection: socket.socket, asked: Any) -> None:
        want = asked.get("want") if isinstance(asked, dict) else None
        if want == "events":
            self._send_events(connection)
        elif want == "folder":
            control_socket.send_folder(connection, self._store)
        elif want == "top":
            self._send_top(connection)
        elif want == "statistics":
            _send(connection, self._on_loop(lambda: attrs.asdict(self._runtime.statistics())))
        else:
            _send(connection, {"error": f"there is no such wish: {want!r}"})

    def _send_events(self, connection: socket.socket) -> None:
        waiting: queue.Queue[tuple[float, Event]] = queue.Queue(EVENTS_WAITING_MAX)
        dropped = 0

        def observe(event: Event) -> None:
            nonlocal dropped
            try:
                waiting.put_nowait((self._clock.now(), event))
            except queue.Full:
                dropped += 1  # the loop waits for nobody

        end = self._on_loop(lambda: self._runtime.observe(observe))
        try:
            _send(connection, {"event": "Watching", "pid": os.getpid()})
            told = 0
            while not self._is_closed:
                try:
                    time_s, event = waiting.get(timeout=BEAT_S)
                except queue.Empty:
                    connection.sendall(b"\n")
                    continue
                _send(connection, as_json(event, time_s))
                if dropped != told:
                    _send(connection, {"event": "Dropped", "count": dropped - told})
                    told = dropped
        finally:
            self._call_soon_threadsafe(end)

    def _send_top(self, connection: socket.socket) -> None:
        busiest = Busiest(self._clock)
        end = self._on_loop(lambda: self._runtime.observe(busiest))
        # Waited on only so that a desk that closes ends it.
        pause = threading.Event()
        try:
            while not self._is_closed:
                try:
                    _send(connection, self._on_loop(lambda: busiest.report(self._runtime)))
                except LoopStuck:
                    _send(connection, {"pid": os.getpid(), "stuck": True})
                pause.wait(BEAT_S)
        finally:
            self._call_soon_threadsafe(end)

    def _on_loop(self, ask: Callable[[], T]) -> T:
        """What *ask* answers on the loop's thread. Raises LoopStuck."""
        done = threading.Event()
        answers: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(ask())
            except Exception as error:
                errors.append(error)
            finally:
                done.set()

        self._call_soon_threadsafe(run)
        if not done.wait(LOOP_S_MAX):
            raise LoopStuck
        if errors:
            raise errors[0]
        return answers[0]


def as_json(event: Event, time_s: float) -> dict[str, Any]:
    """*event* as it is sent."""
    return {"event": type(event).__name__, "time": round(time_s, 6), **attrs.asdict(event)}


def _send(connection: socket.socket, what: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(what, default=_plain, ensure_ascii=False).encode() + b"\n")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
