"""Transports of frames between the processes of a store: unix sockets on one machine, TCP between
machines, and none if one process has it alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from durable._engine.shards import Process, SharedStore
from durable._gates.futures import Answer, PendingAnswer
from durable._model.errors import ObjectUnreachable
from durable._model.peers import Peers
from durable._wire.crossing import Crossing
from durable._wire.peer import Greeting, Peer, connect, meet_self, serve
from durable._wire.served import Reach
from durable._wire.tcp import TcpServer, bind, connect_tcp

# Pauses between attempts to connect to a process of another machine, the last one from then on.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


class Listening(Protocol):
    """Accepts connections from other processes."""

    def close(self) -> None:
        """Stop listening, and end the connections that were accepted here."""


class Transport(Protocol):
    """How processes connect with each other."""

    @property
    def pauses_s(self) -> Sequence[float]:
        """The pauses after failed attempts to connect to a process, the last one from then on;
        empty if an attempt costs nothing."""

    def serve(
        self,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_peer: Callable[[Peer], None],
    ) -> Listening:
        """Accept connections. Raises OSError."""

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        """A connection to *process*, perhaps this one, once both have greeted. Raises
        ObjectUnreachable, or Refused."""

    def close(self) -> None:
        """Connect to no more processes."""


@define(eq=False)
class UnixSockets(Transport):
    """The processes of one machine: every process that may open the socket is one."""

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
    are accepted. Raises OSError if it cannot listen."""

    settings: Peers
    # Called with the socket of each that has authenticated to watch this process.
    on_watcher: Callable[[socket.socket], object]
    pauses_s: Sequence[float] = PAUSES_S
    # The address that others connect to.
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
        return TcpServer(
            self._listener,
            self.settings,
            greeting,
            crossing,
            reach,
            on_peer,
            on_watcher=self.on_watcher,
        )

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        if process.id == greeting.process:
            # The address for others may lead nowhere from here.
            return meet_self(greeting, crossing, reach)
        return connect_tcp(process.address, process.id, self.settings, greeting, crossing, reach)

    def close(self) -> None:
        self._listener.close()


@define(eq=False)
class NoPeers(Transport):
    """The transport of a process that has the store alone: it connects with itself only."""

    pauses_s: Sequence[float] = PAUSES_S
    address: str = ""

    def serve(
        self,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_peer: Callable[[Peer], None],
    ) -> Listening:
        raise AssertionError("a process that has the store alone does not listen")

    def connect(
        self, process: Process, greeting: Greeting, crossing: Crossing, reach: Reach
    ) -> Answer[Peer]:
        if process.id == greeting.process:
            return meet_self(greeting, crossing, reach)
        answer: PendingAnswer[Peer] = PendingAnswer(crossing.services.loop)
        answer.fail(ObjectUnreachable(f"process {process.pid} has taken the store over"))
        return answer

    def close(self) -> None:
        pass
