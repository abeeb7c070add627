"""`pytest --remote`: every call of every stub goes over a real unix socket to its object; with
`--tcp` over TCP, as between machines, with authentication.

A store that is opened then is two processes as far as its calls can tell: each stub, the program's
and those of objects alike, leads to a `RemoteChannel`, over a connection whose other side finds the
objects. Both sides are in one process and one loop, so that the classes and the variables of a test
are the same for both, its clock and its disk too.

A test that cannot be meant so says why: `@pytest.mark.local("…")`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import anyio

from durable._border.channel import Channel
from durable._deploy.programs import Program
from durable._model.ids import ObjectId
from durable._model.peers import Peers
from durable._object.activation import Activation
from durable._runtime import opening
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._runtime.directory import Directory
from durable._runtime.open_store import OpenStore
from durable._runtime.runtime import Runtime
from durable._wire.peer import Greeting, Peer, Server, connect, serve
from durable._wire.served import ServedPort
from durable._wire.tcp import TcpServer, bind, connect_tcp
from durable.testing import objects

_wires: dict[Any, _Wire] = {}  # by the services of the store
_tcp: list[Peers] = []  # how processes meet, if they do so over TCP


class _Wire:
    """The connection of one store to itself."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.server: Server | TcpServer
        self.peer: Peer
        self.other: Peer

    async def open(self, store: OpenStore) -> None:
        crossing = crossing_of(store._services, store._classes)
        reach = OwnObjects(store._classes)
        met: list[Peer] = []
        greeting = Greeting(b"store", "process")
        if _tcp:
            await self._meet_over_tcp(_tcp[0], greeting, crossing, reach, met)
        else:
            self.server = serve(f"{self.folder}/s", greeting, crossing, reach, met.append)
            self.peer = await connect(f"{self.folder}/s", greeting, crossing, reach)
        while not met:
            await anyio.sleep(0)
        self.other = met[0]
        self.unwatch = store._clock.watch(self.is_busy)

    async def _meet_over_tcp(self, settings: Peers, *own: Any) -> None:
        greeting, crossing, reach, met = own
        listener = bind(settings.listen)
        address = settings.advertised(listener.getsockname()[1])
        self.server = TcpServer(listener, settings, greeting, crossing, reach, met.append)
        self.peer = await connect_tcp(
            address, greeting.process, settings, greeting, crossing, reach
        )

    def is_busy(self) -> bool:
        """Whether anything is on its way."""
        one, other = self.peer.link.connection, self.other.link.connection
        return (
            one.sent + one.bytes_waiting != other.received
            or other.sent + other.bytes_waiting != one.received
        )

    def close(self) -> None:
        one, other = self.peer.link.connection, self.other.link.connection
        while self.is_busy() and one.is_open and other.is_open:
            for connection in (one, other):
                connection.flush()
            for connection in (one, other):
                connection._read()
        self.unwatch()
        self.peer.close()
        self.server.close()
        shutil.rmtree(self.folder)


class WiredStore(OpenStore):
    """A store whose calls go over a socket."""

    async def start(self, programs: Sequence[Program]) -> Runtime:
        runtime = await super().start(programs)
        wire = _Wire()
        await wire.open(self)
        _wires[self._services] = wire
        return runtime

    async def stop(self) -> None:
        wire = _wires.get(self._services)
        while wire is not None and wire.is_busy():  # in one process nothing is on its way
            await anyio.sleep(0)
        try:
            await super().stop()
        finally:
            wire = _wires.pop(self._services, None)
            if wire is not None:
                wire.close()

    def let_go(self) -> None:
        _wires.pop(self._services, None)
        super().let_go()


def _reach(stub: Any) -> Activation:
    """The activation that a call by *stub* would reach: that of its port."""
    stub._entry.check_open()
    channel = stub._reach()
    wire = _wires.get(stub._entry.directory.services)
    if wire is None:
        activation: Activation = channel.activation
        return activation
    port, served = channel.route, wire.other.served
    if not port._is_known:
        port._is_known = True
        served._ports[port.number] = ServedPort(
            served.replies, served.reach, port.target.class_number, stub.id
        )
    elif port.number not in served._ports:  # it is on its way
        return find_activation(stub)
    return served._ports[port.number].reach()


def find_activation(stub: Any) -> Activation:
    activation: Activation = stub._entry.activation_of(stub.id)
    return activation


def install(*, over_tcp: bool = False) -> None:
    """Let all stores that are opened from now on be such."""
    if over_tcp:
        _tcp.append(Peers(listen="127.0.0.1:0", secret="the secret of the tests' processes"))
    opening.Opening._store_class = WiredStore
    find_local = Directory.channel_of

    def channel_of(self: Directory, object_id: ObjectId, cls: Any, class_number: int) -> Channel:
        wire = _wires.get(self.services)
        if wire is None:
            return find_local(self, object_id, cls, class_number)
        return wire.peer.channel(class_number, object_id)

    Directory.channel_of = channel_of  # type: ignore[method-assign]
    objects._reach = _reach  # type: ignore[assignment]
    wait_all_tasks_blocked = anyio.wait_all_tasks_blocked

    async def wait_all_blocked() -> None:
        while True:
            await wait_all_tasks_blocked()
            if not any(wire.is_busy() for wire in _wires.values()):
                return
            await anyio.sleep(0)

    anyio.wait_all_tasks_blocked = wait_all_blocked  # type: ignore[attr-defined]
