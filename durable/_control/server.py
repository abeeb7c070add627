"""The control server: reports to `durable tail` and `durable top` what a running program is doing.

It listens in threads of its own, so that it can answer while the event loop is stuck, and say so;
what comes each second is sent by the loop's thread. It observes the objects only while a client is
connected. A request is one line of JSON, a response
lines of JSON: `{"want": "events"}`, `{"want": "top"}` or `{"want": "statistics"}`; of the first two
`"sampled": true` takes what does not slow the program down. With `{"want":
"order", ...}` the program does something with an object, and returns the outcome. The response to
`{"want": "folder"}` is the folder itself, as an open file, for a process that cannot lock it where
it is mounted there. An empty line is a heartbeat, which shows whether the client is still there.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from durable._model.clock import Clock
from durable._model.log import log
from durable._model.observer import Event, Observer

from . import control_socket
from .busiest import Busiest
from .feed import SEND_S_MAX, CallLater, Feed, line_of
from .polled import Polled
from .sampled_events import SampledEvents, as_json

T = TypeVar("T")

TakeOrder = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], None]
"""Begins to carry out an order, and calls back with the answer; called on the loop's thread."""

CLIENTS_MAX = 8
EVENTS_WAITING_MAX = 10_000
# A fork that another process has made ready comes whole, and takes a third more as text.
REQUEST_SIZE_MAX = 1 << 30
REQUEST_S_MAX = 5.0
BEAT_S = 1.0
LOOP_S_MAX = 2.0
SAMPLE_S = 0.25
# Periods of a sample in which nothing happens before a heartbeat.
BEATS = 4


def wants_control_socket() -> bool:
    """Whether the environment of the process asks for one."""
    return os.environ.get("DURABLE_OPERATE", "") not in {"", "0"}


class LoopStuck(Exception):
    """The event loop has run nothing for `LOOP_S_MAX`."""


class ControlServer:
    """Listens from its making until it is closed; a failure to listen is logged."""

    def __init__(
        self,
        store: str,
        clock: Clock,
        call_soon_threadsafe: Callable[[Callable[[], None]], object],
        call_later: CallLater,
        *,
        observe: Callable[[Observer], Callable[[], None]],
        sample: Callable[[Observer, Callable[[int], object]], Callable[[], None]],
        statistics: Callable[[], Mapping[str, Any]],
        polled: Polled,
        take_order: TakeOrder,
    ) -> None:
        self._store = store
        self._clock = clock
        self._call_soon_threadsafe = call_soon_threadsafe
        # To be called on the loop's thread.
        self._call_later = call_later
        self._observe, self._sample = observe, sample
        self._statistics, self._polled = statistics, polled
        self._take_order = take_order
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        try:
            self._listener: socket.socket | None = control_socket.listen(store)
        except OSError as error:
            log.error("durable tail and top cannot see into the store %r: %s", store, error)
            self._listener = None
            return
        self._start(self._listen, self._listener)

    def take(self, connection: socket.socket) -> None:
        """Answer a client of another machine, which has authenticated: it may watch, and give no
        orders."""
        connection.setblocking(True)
        self._let_in(connection, self._serve_far)

    def close(self) -> None:
        """Disconnect all clients."""
        with self._lock:
            self._closed.set()
            clients = list(self._clients)
        for connection in (self._listener, *clients):
            if connection is not None:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        if self._listener is not None:
            self._listener.close()
            control_socket.remove(self._store)

    # In threads

    def _start(self, body: Callable[[socket.socket], None], connection: socket.socket) -> None:
        # Daemons, because no client may keep the program from ending.
        name = "durable control"
        threading.Thread(target=body, args=(connection,), name=name, daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._let_in(connection, self._serve)

    def _let_in(self, connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with self._lock:
            is_accepted = not self._closed.is_set() and len(self._clients) < CLIENTS_MAX
            if is_accepted:
                self._clients.add(connection)
        if is_accepted:
            self._start(serve, connection)
        else:
            connection.close()

    def _serve_far(self, connection: socket.socket) -> None:
        self._serve(connection, may_change=False)

    def _serve(self, connection: socket.socket, *, may_change: bool = True) -> None:
        try:
            with connection:
                connection.settimeout(REQUEST_S_MAX)
                with connection.makefile("rb") as lines:
                    asked = json.loads(lines.readline(REQUEST_SIZE_MAX))
                connection.settimeout(SEND_S_MAX)
                self._answer(connection, asked, may_change=may_change)
        except (OSError, ValueError, LoopStuck):
            pass  # the client has gone, or speaks another protocol
        except Exception:
            log.exception("a control request failed")
        finally:
            with self._lock:
                self._clients.discard(connection)

    def _answer(self, connection: socket.socket, asked: Any, *, may_change: bool) -> None:
        want = asked.get("want") if isinstance(asked, dict) else None
        if want == "events" and asked.get("sampled"):
            self._send_sample(connection)
        elif want == "events":
            self._send_events(connection)
        elif want == "folder" and may_change:
            control_socket.send_folder(connection, self._store)
        elif want == "top":
            self._send_top(connection, is_sampled=bool(asked.get("sampled")))
        elif want == "statistics":
            _send(connection, self._on_loop(self._statistics))
        elif want == "order" and may_change:
            self._obey(connection, asked)
        else:
            _send(connection, {"error": f"unknown request {want!r}"})

    def _send_events(self, connection: socket.socket) -> None:
        waiting: queue.Queue[tuple[float, Event]] = queue.Queue(EVENTS_WAITING_MAX)
        dropped = 0

        def observe(event: Event) -> None:
            nonlocal dropped
            try:
                waiting.put_nowait((self._clock.now(), event))
            except queue.Full:
                dropped += 1  # the loop does not wait for a slow client

        end = self._on_loop(lambda: self._observe(observe))
        try:
            _send(connection, {"event": "Watching", "pid": os.getpid()})
            reported = 0
            while not self._closed.is_set():
                try:
                    time_s, event = waiting.get(timeout=BEAT_S)
                except queue.Empty:
                    connection.sendall(b"\n")
                    continue
                _send(connection, as_json(event, time_s))
                if dropped != reported:
                    _send(connection, {"event": "Dropped", "count": dropped - reported})
                    reported = dropped
        finally:
            self._call_soon_threadsafe(end)

    def _send_sample(self, connection: socket.socket) -> None:
        sample = SampledEvents(self._clock)
        pid = os.getpid()
        beats = 0

        def message() -> bytes:
            nonlocal beats
            said = sample.take()
            if said is not None:
                return line_of({**said, "pid": pid})
            beats += 1
            return b"" if beats % BEATS else b"\n"

        feed = Feed(connection, self._call_later, SAMPLE_S, message)
        _send(connection, {"event": "Watching", "pid": pid})
        end = self._on_loop(lambda: self._sample(sample.observe, sample.miss))
        try:
            self._on_loop(feed.begin)
            while not (feed.over.wait(BEAT_S) or self._closed.is_set()):
                pass
        finally:
            self._call_soon_threadsafe(feed.end)
            self._call_soon_threadsafe(end)

    def _send_top(self, connection: socket.socket, *, is_sampled: bool) -> None:
        busiest = Busiest(self._clock)
        polled = self._polled

        def message() -> bytes:
            return line_of(busiest.report(polled.statistics(), polled.queue_lengths()))

        feed = Feed(connection, self._call_later, BEAT_S, message, polled.count)
        polled.measure()
        if is_sampled:
            end = self._on_loop(lambda: self._sample(busiest, busiest.miss))
        else:
            end = self._on_loop(lambda: self._observe(busiest))
        try:
            self._on_loop(feed.begin)
            unserved = 0
            while not (feed.over.wait(BEAT_S) or self._closed.is_set()):
                polled.measure()
                unserved = 0 if feed.is_served else unserved + 1
                feed.is_served = False
                if unserved * BEAT_S >= LOOP_S_MAX:
                    feed.send(line_of({"pid": os.getpid(), "stuck": True}))
        finally:
            self._call_soon_threadsafe(feed.end)
            self._call_soon_threadsafe(end)

    def _obey(self, connection: socket.socket, order: Mapping[str, Any]) -> None:
        done = threading.Event()
        answers: list[Mapping[str, Any]] = []

        def on_answer(answer: Mapping[str, Any]) -> None:
            answers.append(answer)
            done.set()

        try:
            self._on_loop(lambda: self._take_order(order, on_answer))
        except LoopStuck:
            why = "its event loop is stuck; the order is carried out when that goes on, if it does"
            _send(connection, {"error": f"process {os.getpid()}: {why}"})
            return
        while not done.wait(BEAT_S):
            if self._closed.is_set():
                return
            connection.sendall(b"\n")
        _send(connection, answers[0])

    def _on_loop(self, ask: Callable[[], T]) -> T:
        """The result of *ask*, called on the loop's thread. Raises LoopStuck."""
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


def let_watch(server: ControlServer | None, connection: socket.socket) -> None:
    """Let the server answer a client of another machine, or tell it that there is no server."""
    if server is not None:
        server.take(connection)
        return
    with connection, suppress(OSError):
        _send(
            connection,
            {
                "error": "the process was not opened with durable.open(..., operate=True), nor "
                "does it run with DURABLE_OPERATE=1"
            },
        )


def _send(connection: socket.socket, what: Mapping[str, Any]) -> None:
    connection.sendall(line_of(what))
