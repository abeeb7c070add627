"""Two runtimes with a real unix socket between them: objects in one, their callers in the other."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from attrs import define, field

import durable
import durable.testing
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._runtime.stub import Stub
from durable._wire.crossing import Crossing
from durable._wire.peer import Greeting, Peer, Server, connect, serve

T = TypeVar("T", bound=durable.DurableObject)

LIMITS = durable.Limits(shutdown_s_max=1.0)


@define(eq=False)
class Side:
    """One of the two processes."""

    runtime: durable.Runtime
    greeting: Greeting
    crossing: Crossing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.crossing = crossing_of(self.runtime._services, self.runtime._classes)

    @property
    def reach(self) -> OwnObjects:
        return OwnObjects(self.runtime._classes)


@define(eq=False)
class Pair:
    """A process that has objects, one that calls them, and what connects the two."""

    objects: Side
    callers: Side
    server: Server
    # What the caller has of the process with the objects, and what that has of the caller.
    peer: Peer
    caller: Peer

    def stub(self, cls: type[T], name: str) -> Stub[T]:
        """A stub for the caller, of an object in the other process."""
        namespace = self.callers.runtime.namespace(cls)
        number = self.objects.runtime.namespace(cls).record.number
        assert namespace.record.number == number
        stub = namespace.get_by_name(name)
        stub._channel = self.peer.channel(number, stub.id)
        return stub

    def local(self, cls: type[T], name: str) -> Stub[T]:
        """A stub of the same object, in its own process."""
        return self.objects.runtime.namespace(cls).get_by_name(name)


MakePair = Callable[..., Any]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """The two, connected."""
    with tempfile.TemporaryDirectory() as short:
        async with (
            durable.testing.open(tmp_path / "objects", limits=LIMITS) as objects,
            durable.testing.open(tmp_path / "callers", limits=LIMITS) as callers,
        ):
            one = Side(objects, Greeting(b"store", "objects"))
            other = Side(callers, Greeting(b"store", "callers"))
            met: list[Peer] = []
            server = serve(f"{short}/socket", one.greeting, one.crossing, one.reach, met.append)
            peer = await connect(server.path, other.greeting, other.crossing, other.reach)
            while not met:
                await anyio.sleep(0)
            try:
                yield Pair(one, other, server, peer, met[0])
            finally:
                peer.close()
                server.close()
