"""Processes of different machines meet over TCP: one listens, others connect, and each proves to
the other that it belongs to the store before anything else is sent.

A cut cable is noticed by a link's heartbeat: no packet reports it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
from attrs import define, field

from durable._gates.futures import Answer, PendingAnswer
from durable._loop.loop import Loop
from durable._model.addresses import Address
from durable._model.errors import DurableError, ObjectUnreachable
from durable._model.log import log
from durable._model.peers import Peers

from .authentication import WATCHES, Refused, connecting, listening
from .crossing import Crossing
from .forks import keep_from_children
from .peer import BACKLOG, Greeting, Peer
from .served import Reach
from .strangers import STRANGER_S_MAX, Stranger

# Connections that have not authenticated; beyond that the oldest is closed.
STRANGERS_MAX: Final = 64
# At most one refused connection is logged in this time.
LOGS_S: Final = 10.0

_Found = tuple[Any, Any, int, str, Any]


def bind(listen: str) -> socket.socket:
    """A listening socket at *listen*; no connection is accepted yet. Raises OSError."""
    address = Address.of(listen, "Peers.listen")
    try:
        family, kind, protocol, _, where = _find(address, socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # A restarted process listens at the port of its predecessor.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # "[::]" is every address, those of IPv4 too.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_any)
            listener.bind(where)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            keep_from_children(listener)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"this process cannot listen at {listen!r} for its peers: {error}"
        ) from error
    return listener


def _find(address: Address, flags: int = 0) -> list[_Found]:
    """The system's addresses for an address. Blocks; raises OSError."""
    return socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=flags, proto=socket.IPPROTO_TCP
    )


@define(eq=False)
class TcpServer:
    """Accepts connections from the other processes of a store."""

    listener: socket.socket
    settings: Peers
    greeting: Greeting
    crossing: Crossing
    reach: Reach
    # Called with each process that has connected, authenticated and greeted.
    on_peer: Callable[[Peer], None]
    # Called with the socket of each that has authenticated to watch this process.
    on_watcher: Callable[[socket.socket], object] = field(default=socket.socket.close, kw_only=True)
    stranger_s_max: float = STRANGER_S_MAX
    peers: set[Peer] = field(factory=set, init=False)
    # The oldest first.
    _strangers: dict[int, Stranger] = field(factory=dict, init=False)
    _came: int = field(default=0, init=False)
    _may_log: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self.loop.watch_readable(self.listener, self._accept)

    @property
    def loop(self) -> Loop:
        return self.crossing.services.loop

    def _accept(self) -> None:
        try:
            sock, (host, *_) = self.listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionError):
                log.error("a process that wants to connect could not be let in: %s", error)
            return
        sock.setblocking(False)
        self._came += 1
        number = self._came
        steps = listening(self.settings.secret, self.greeting.process)
        stranger = Stranger(
            self.loop,
            sock,
            steps,
            partial(self._is_known, number),
            partial(self._is_turned_away, number, host),
            self.stranger_s_max,
        )
        self._strangers[number] = stranger
        if len(self._strangers) > STRANGERS_MAX:
            next(iter(self._strangers.values())).fail("too many others came after it")
        tls = self.settings.tls
        stranger.connected(None if tls is None else tls.server)

    def _is_known(self, number: int, sock: socket.socket, process: str) -> None:
        del self._strangers[number]
        if process.startswith(WATCHES):
            self.on_watcher(sock)
            return
        peer = Peer(
            self.loop, sock, self.greeting, self.crossing, self.reach, self.on_peer, process
        )
        self.peers.add(peer)
        peer.on_gone.append(lambda _: self.peers.discard(peer))

    def _is_turned_away(self, number: int, host: str, why: DurableError) -> None:
        self._strangers.pop(number, None)
        if self._may_log:
            self._may_log = False
            self.loop.call_later(LOGS_S, self._log_again)
            log.warning("a connection from %s was refused: %s", host, why)

    def _log_again(self) -> None:
        self._may_log = True

    def close(self) -> None:
        """Stop listening, and end the connections that were accepted here."""
        if self.listener.fileno() < 0:
            return
        self.loop.forget(self.listener)
        self.listener.close()
        self._may_log = False
        for stranger in list(self._strangers.values()):
            stranger.fail("this process closes the store")
        for peer in list(self.peers):
            peer.close()


def connect_tcp(
    address: str,
    process: str,
    settings: Peers,
    greeting: Greeting,
    crossing: Crossing,
    reach: Reach,
) -> Answer[Peer]:
    """The process *process*, which listens at *address*, once both have authenticated and greeted.

    Raises ObjectUnreachable if it does not listen there or does not authenticate in time, and
    Refused if one of the two refuses to speak with the other.
    """
    loop = crossing.services.loop
    answer: PendingAnswer[Peer] = PendingAnswer(loop)
    attempt = _Attempt(address, process, settings, greeting, crossing, reach, answer)
    # In no context of an object's code.
    loop.spawn(attempt.run(), f"durable connects with {process}", Context())
    return answer


@define(eq=False)
class _Attempt:
    """One attempt to connect, at each address that a host's name resolves to."""

    address: str
    process: str
    settings: Peers
    greeting: Greeting
    crossing: Crossing
    reach: Reach
    answer: PendingAnswer[Peer]
    _places: list[_Found] = field(factory=list, init=False)

    @property
    def loop(self) -> Loop:
        return self.crossing.services.loop

    async def run(self) -> None:
        """Resolve the address, which may take a while, and begin."""
        why = "its address was not found in time"
        try:
            with anyio.move_on_after(STRANGER_S_MAX):
                address = Address.of(self.address, "the address of a process")
                self._places = await anyio.to_thread.run_sync(
                    _find, address, abandon_on_cancel=True
                )
            self._try_next(why)
        except (OSError, ValueError) as error:
            self._fail(ObjectUnreachable(str(error)))
        finally:
            self.loop.ended(self.loop.own_task())

    def _try_next(self, why: str) -> None:
        if not self._places:
            self._fail(ObjectUnreachable(why))
            return
        family, kind, protocol, _, where = self._places.pop(0)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6 is given IPv6 addresses too
            self._try_next(str(error))
            return
        sock.setblocking(False)
        stranger = Stranger(
            self.loop,
            sock,
            connecting(self.settings.secret, self.greeting.process, self.process),
            self._is_known,
            self._failed,
        )
        try:
            sock.connect(where)
        except BlockingIOError:
            pass
        except OSError as error:
            stranger.fail(os.strerror(error.errno or 0))
            return
        stranger.when_connected(partial(self._connected, stranger))

    def _connected(self, stranger: Stranger) -> None:
        tls = self.settings.tls
        host = Address.of(self.address, "the address of a process").host
        stranger.connected(None if tls is None else tls.client, host)

    def _failed(self, error: DurableError) -> None:
        if isinstance(error, Refused):
            self._fail(error)
        else:
            self._try_next(str(error))

    def _is_known(self, sock: socket.socket, process: str) -> None:
        peer = Peer(
            self.loop,
            sock,
            self.greeting,
            self.crossing,
            self.reach,
            self.answer.resolve,
            process,
        )

        def gone(why: str) -> None:
            kind = Refused if peer.is_refused else ObjectUnreachable
            self._fail(kind(f"it did not greet: {why}"))

        peer.on_gone.append(gone)

    def _fail(self, error: DurableError) -> None:
        text = f"cannot connect to process {self.process} at {self.address}: {error}"
        self.answer.fail(type(error)(text))
