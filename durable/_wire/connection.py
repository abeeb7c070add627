"""A connection: frames out, frames in, over a socket that never blocks.

The first frame after something has arrived leaves at once; others that are sent in the same round
of the loop leave together, unless that round takes long. So a request and its response do not wait
for the loop, and a crowd of frames costs few system calls. No task reads or writes: the loop calls
back when the socket can be read, or written to after it was full.

Rule: whatever arrives, and however the connection ends, an error that is raised here ends this
connection and nothing else.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from durable._loop.loop import Loop
from durable._model.clock import SystemClock
from durable._model.log import log

from .forks import keep_from_children
from .frames import FrameReader

READ_SIZE = 262_144
# What a socket raises when it would block. TLS errors come first: they are OSErrors too.
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# A frame that waits for the end of the round leaves with the next one after this time.
WAITS_S_MAX = 0.001

steady = SystemClock.steady


class Connection:
    """One end of a connection. Nothing here suspends."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_frame: Callable[[list[Any]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        keep_from_children(sock)
        self._loop = loop
        self._sock = sock
        self._on_frame = on_frame
        # Called with the reason, once; not when this side closes.
        self._on_lost = on_lost
        self.frames = FrameReader()
        self.is_open = True
        self._is_writing = False  # the socket was full, and its writability is awaited
        self._is_flush_due = False
        self._waits_since_s = 0.0
        # Something has arrived since a frame left at once.
        self._is_answering = True
        # Frames that leave at the end of this round, and bytes that the socket did not take.
        self._waiting: list[bytes] = []
        self._unsent = memoryview(b"")
        # Bytes sent and received so far; and those that wait to be sent.
        self.sent = 0
        self.received = 0
        self.bytes_waiting = 0
        # Whether anything has arrived since this was last reset.
        self.has_heard = True
        loop.watch_readable(sock, self._read)

    def send(self, frame: bytes) -> None:
        """Let *frame* leave, with others of this round; dropped if the connection is gone."""
        if not self.is_open:
            return
        self.bytes_waiting += len(frame)
        if self._is_answering and not self._waiting and not self._is_writing:
            self._is_answering = False
            self._unsent = memoryview(frame)
            self._write()
            return
        self._waiting.append(frame)
        if self._is_writing:
            return
        if not self._is_flush_due:
            self._is_flush_due = True
            self._waits_since_s = steady()
            self._loop.call_soon(self.flush)
        elif steady() - self._waits_since_s > WAITS_S_MAX:
            # The round is long, since code of objects computes: the other side need not idle.
            self._send_waiting()
            self._waits_since_s = steady()

    def flush(self) -> None:
        """Send what waits."""
        self._is_flush_due = False
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self.is_open and not self._is_writing and (self._unsent or self._waiting):
            if not self._unsent:
                waiting, self._waiting = self._waiting, []
                # A view, of which the rest is cut off without copying it.
                self._unsent = memoryview(waiting[0] if len(waiting) == 1 else b"".join(waiting))
            self._write()

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except WOULD_BLOCK:
            sent = 0
        except OSError as error:
            # Not in this step: the sender has still to record the frame as sent.
            self._loop.call_soon(partial(self._lose, f"it cannot be written to: {error}"))
            sent = 0
            self._is_writing = True
        self.sent += sent
        self.bytes_waiting -= sent
        self._unsent = self._unsent[sent:]
        if self._unsent and not self._is_writing:
            self._is_writing = True
            self._loop.when_writable(self._sock, self._write_on)

    def _write_on(self) -> None:
        self._is_writing = False
        self.flush()

    def _read(self) -> None:
        if not self.is_open:
            return
        try:
            received = self._sock.recv(READ_SIZE)
        except WOULD_BLOCK:
            return
        except OSError as error:
            self._lose(f"it cannot be read: {error}")
            return
        if not received:
            self._lose("the other process has closed it")
            return
        self.received += len(received)
        self.has_heard = self._is_answering = True
        try:
            for frame in self.frames.feed(received):
                self._on_frame(frame)
                if not self.is_open:
                    return
        except Exception as error:
            log.exception("a peer has sent an invalid frame; its connection is closed")
            self._lose(f"what arrived is wrong: {error}")

    def _lose(self, why: str) -> None:
        if self.is_open:
            self.drop()
            try:
                self._on_lost(why)
            except Exception:
                log.exception("a callback for the end of a connection failed")

    def close(self) -> None:
        """Send what waits as far as the socket takes it, and end the connection."""
        if self.is_open and self._waiting and not self._unsent:
            with suppress(OSError):
                self.sent += self._sock.send(b"".join(self._waiting))
        self.drop()

    def drop(self) -> None:
        """End the connection. What has not left by now never does."""
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._sock)
            self._sock.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Connection {state}, {self.bytes_waiting} bytes to send>"
