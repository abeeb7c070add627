"""A stranger: the other end of a TCP connection, until it is authenticated.

The connection is made, encrypted if it has to be, and authenticated; then the socket is passed on.

Rule: a stranger has bounded time, and no more is read from it than its authentication needs.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from durable._loop.loop import Loop
from durable._model.errors import DurableError, ObjectUnreachable

from .authentication import NotAuthentic, Refused, Steps
from .connection import WOULD_BLOCK

# The time to connect, to agree on keys, and to authenticate.
STRANGER_S_MAX: Final = 5.0


class Stranger:
    """One end of a connection that is being made. Nothing here suspends."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        steps: Steps,
        on_known: Callable[[socket.socket, str], None],
        on_failed: Callable[[DurableError], None],
        s_max: float = STRANGER_S_MAX,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._steps = steps
        # Called once: with the socket and the name of the process at its other end, or with the
        # reason why there is none to speak with.
        self._on_known = on_known
        self._on_failed = on_failed
        self._unsent = b""
        self._wanted = 0
        self._has_begun = False
        self._read = b""
        self._is_encrypting = False
        self._is_over = False
        self._timer = loop.call_later(s_max, self._be_late)
        self._s_max = s_max

    def connected(self, context: ssl.SSLContext | None, host: str | None = None) -> None:
        """The connection stands: encrypt it with *context*, as the side that connects if there is
        a *host*, and authenticate."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._is_encrypting = True
                self._sock = context.wrap_socket(
                    self._sock,
                    server_side=host is None,
                    server_hostname=host,
                    do_handshake_on_connect=False,
                )
        except (OSError, ValueError) as error:
            self.fail(f"the connection cannot be used: {error}")
            return
        self._loop.watch_readable(self._sock, self._go_on)
        self._go_on()

    def when_connected(self, callback: Callable[[], None]) -> None:
        """Call back when the connection that is being made stands; fail if it does not."""

        def stands() -> None:
            if self._is_over:
                return
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.fail(os.strerror(error))
            else:
                callback()

        self._loop.when_writable(self._sock, stands)

    def _go_on(self) -> None:
        """Do what can be done without waiting."""
        if self._is_over:
            return
        try:
            if self._is_encrypting:
                assert isinstance(self._sock, ssl.SSLSocket)
                self._sock.do_handshake()
                self._is_encrypting = False
            self._send()
            while not self._unsent:
                while len(self._read) < self._wanted:
                    received = self._sock.recv(self._wanted - len(self._read))
                    if not received:
                        self.fail("it has closed the connection")
                        return
                    self._read += received
                read, self._read = self._read, b""
                step = self._steps.send(read) if self._has_begun else next(self._steps)
                self._has_begun = True
                self._unsent, self._wanted = step.send, step.read
                self._send()
        except StopIteration as end:
            self._is_known(end.value)
        except ssl.SSLWantWriteError:
            self._loop.when_writable(self._sock, self._go_on)
        except WOULD_BLOCK:
            pass
        except Refused as error:
            self._end(error)
        except (NotAuthentic, OSError) as error:
            self.fail(str(error))

    def _send(self) -> None:
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except WOULD_BLOCK:
                self._loop.when_writable(self._sock, self._go_on)
                return
            self._unsent = self._unsent[sent:]

    def _is_known(self, name: str) -> None:
        self._is_over = True
        self._timer.cancel()
        self._loop.forget(self._sock)
        self._on_known(self._sock, name)

    def _be_late(self) -> None:
        self.fail(f"it has not authenticated within {self._s_max:g} s")

    def fail(self, why: str) -> None:
        """Close the connection, for the reason *why*."""
        self._end(ObjectUnreachable(why))

    def _end(self, error: DurableError) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock)
        with suppress(OSError):
            self._sock.close()
        self._on_failed(error)
