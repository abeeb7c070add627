"""What carries frames between the processes of a store: unix sockets on one machine, TCP between
machines."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from durable._engine.shards import Process, SharedStore
from durable._gates.futures import Answer
from durable._model.peers import Peers
from durable._wire.crossing import Crossing
from durable._wire.peer import Greeting, Peer, connect, meet_self, serve
from durable._wire.served import Reach
from durable._wire.tcp import TcpServer, bind, connect_tcp

# Between two attempts to connect with a process of another machine, at first and later on.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


class Listening(Protocol):
    """Lets other processes connect."""

    def close(self) -> None:
        """Listen no more, and end the connections that came by it."""


class Transport(Protocol):
    """How processes connect with each other."""

    @property
    def pauses_s(self) -> Sequence[float]:
        """How long a process is left alone that could not be reached, at first and later on; empty
        where an attempt costs nothing."""

    def serve(
        self,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_peer: Callable[[Peer], None],
    ) -> Listening:
        """Let others connect. Raises OSError."""

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        """*process*, this one perhaps, once both have greeted. Raises ObjectUnreachable, or
        Refused."""

    def close(self) -> None:
        """Connect no more."""


@define(eq=False)
class UnixSockets(Transport):
    """The processes of one machine: who may open the socket is one of them."""

    shared: SharedStore
    pauses_s: Sequence[float] = ()

    def serve(
        self,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_peer: Callable[[Peer], None],
    ) -> Listening:
        return serve(self.shared.address(self.shared.me), greeting, crossing, reach, on_peer)

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        return connect(self.shared.address(process), greeting, crossing, reach)

    def close(self) -> None:
        pass


@define(eq=False)
class TcpSockets(Transport):
    """The processes of several machines. Listens from the beginning; connections wait until they
    are served. Raises OSError if that cannot be."""

    settings: Peers
    pauses_s: Sequence[float] = PAUSES_S
    # Where others connect to.
    address: str = field(init=False)
    _listener: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._listener = bind(self.settings.listen)
        self.address = self.settings.advertised(self._listener.getsockname()[1])

    def serve(
        self,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_peer: Callable[[Peer], None],
    ) -> Listening:
        return TcpServer(self._listener, self.settings, greeting, crossing, reach, on_peer)

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        if process.id == greeting.process:
            # The address that others reach it by may lead nowhere from here.
            return meet_self(greeting, crossing, reach)
        return connect_tcp(process.address, process.id, self.settings, greeting, crossing, reach)

    def close(self) -> None:
        self._listener.close()
