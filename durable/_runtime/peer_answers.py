"""The answers of the processes of a store to one of them that asks about their state."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Final

import anyio

from durable._engine.shards import SharedStore
from durable._model.errors import DurableError
from durable._wire.peer import Peer

from .neighbours import Neighbours
from .peer_processes import PeerProcess

# How long to wait for the answer of another process.
ANSWERS_S_MAX: Final = 2.0


async def peer_processes(
    shared: SharedStore, neighbours: Neighbours, live_here: int
) -> list[PeerProcess]:
    """All processes of a store; *live_here* objects are in the memory of this one."""
    shards = Counter(owned.owner for owned in shared.owners())
    live: dict[str, int] = {shared.me.id: live_here}

    async def ask(process: str, peer: Peer) -> None:
        with anyio.move_on_after(ANSWERS_S_MAX), suppress(DurableError):
            live[process] = await peer.request("peer")

    async with anyio.create_task_group() as group:
        for process, peer in neighbours.peers.items():
            if process != shared.me.id:
                group.start_soon(ask, process, peer)
    return [
        PeerProcess(
            id=process.id,
            pid=process.pid,
            address=None if process.is_alone else process.address,
            version=process.version,
            state=process.state,
            shards=shards[process.id],
            live_objects=live.get(process.id),
            is_here=process.id == shared.me.id,
        )
        for process in sorted(shared.processes(), key=lambda process: process.pid)
    ]
