"""The processes of a store over TCP, as those of several machines are: cut off, and met again."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import attrs
import pytest
from attrs import define, field

import durable
from durable._engine.shards import Process
from durable._gates.futures import Answer
from durable._runtime import open_shared
from durable._runtime.transports import TcpSockets, Transport
from durable._wire.peer import Peer

from .conftest import Processes

pytestmark = pytest.mark.anyio

SETTINGS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


@define
class Network:
    """Who listens where. A folder says only where sockets of this machine are."""

    addresses: dict[str, str] = field(factory=dict)
    # Between these two nothing can be connected.
    is_cut: bool = False
    attempts: int = 0


@define(eq=False)
class OverTcp(TcpSockets):
    """Finds the address of a process in the test's own table."""

    network: Network = field(kw_only=True)

    def connect(self, process: Process, *own: Any) -> Answer[Peer]:
        address = self.network.addresses.get(process.id, "127.0.0.1:1")
        if process.id != own[0].process:
            self.network.attempts += 1
            if self.network.is_cut:
                address = "127.0.0.1:1"
        return super().connect(attrs.evolve(process, address=address), *own)


@pytest.fixture
def network(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()

    def transport(shared: Any) -> Transport:
        made = OverTcp(SETTINGS, socket.socket.close, network=network)
        network.addresses[shared.me.id] = made.address
        return made

    monkeypatch.setattr(open_shared, "UnixSockets", transport)
    processes.bindings["COUNTERS"] = Counter
    return network


async def test_every_process_calls_every_object_over_tcp(
    processes: Processes, network: Network
) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    for name in map(str, range(20)):
        assert await one.env.COUNTERS.get_by_name(name).increment() == 1
        assert await two.env.COUNTERS.get_by_name(name).increment() == 2

    assert network.attempts


async def test_processes_that_were_cut_off_meet_again(
    processes: Processes, network: Network
) -> None:
    """By themselves; calls that had not begun wait for that, and the attempts are bounded."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    there = one.env.COUNTERS.get_by_name(processes.name_in(two, two.env.COUNTERS))
    assert await there.increment() == 1
    neighbours = processes.store(one)._neighbours
    network.is_cut, network.attempts = True, 0
    for peer in list(neighbours._met_peers):
        peer.close()
    async with anyio.create_task_group() as group:
        called: list[int] = []

        async def call() -> None:
            called.append(await there.increment())

        group.start_soon(call)
        while not any(neighbours._failures.values()):
            await anyio.sleep(0.001)
        assert not called
        network.is_cut = False

    assert called == [2]
    assert network.attempts < 20


async def test_a_stranger_to_the_secret_is_refused_when_it_opens(
    processes: Processes,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = await processes.start()
    with monkeypatch.context() as patch:
        patch.setattr(
            __name__ + ".SETTINGS", attrs.evolve(SETTINGS, secret="a secret of somebody else's")
        )
        with pytest.raises(durable.DurableError, match="another secret"):
            await processes.start()

    assert await one.env.COUNTERS.get_by_name("a").increment() == 1
