"""Sockets whose objects move to another process: their descriptions, on the way there.

The former owner of a shard hands them to the process that should get the shard. As a rule that one
gets it, a little later. If another one does, the descriptions are sent on to it; a process that
closes sends on those that it still has.

Rule: the process of a socket's client knows which process has the description, and closes the
socket if that process is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from durable._border.sockets import Sockets, SocketTable
from durable._wire.peer import Peer
from durable._wire.socket_moves import clients_of, epoch_of, let_go, object_of, take_over

from .class_table import ClassTable
from .crossings import entry_of
from .neighbours import Neighbours, process_of
from .shard_disks import ShardDisks

# The notice that describes the sockets of an object that moves.
SOCKETS: Final = "sockets"
# The notice that the description of a socket was sent on to another process.
HELD: Final = "held"


@define(eq=False)
class MovingSockets:
    """What one process has of sockets that are on their way."""

    disks: ShardDisks
    neighbours: Neighbours
    classes: ClassTable
    sockets: SocketTable
    # Descriptions whose shard is not here, or not yet.
    _to_come: dict[int, list[list[Any]]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        crossing = self.neighbours.crossing
        crossing.on_notice[SOCKETS] = self._came
        crossing.on_notice[HELD] = lambda peer, value: crossing.moves.held(*value)

    async def hand_over(
        self, shard: int, sockets: Sockets, holder: str | None, *, keeps_clients: bool
    ) -> None:
        """Give the process *holder*, the next owner of the shard, the sockets that can move there;
        see `let_go`."""
        neighbours = self.neighbours
        peer = neighbours.peers.get(holder or "")
        if holder is None or peer is None:
            return
        epoch = neighbours.owners.epoch_of(shard)
        description = await let_go(
            neighbours.crossing, sockets, holder, epoch, keeps_clients=keeps_clients
        )
        if description is not None:
            peer.notify(SOCKETS, description)

    def opened(self, shard: int) -> None:
        """This process has got a shard."""
        for description in self._to_come.pop(shard, ()):
            self._take_over(description)

    def owner_changed(self, shard: int | None) -> None:
        """The owner of a shard, or of all, may be another, or can be reached now."""
        for each in list(self._to_come) if shard is None else [shard]:
            owner = self.neighbours.owners.owner_of(each)
            if owner is not None and isinstance(owner.peer, Peer):
                self._send_on(each, owner.peer, owner.epoch)

    def send_all_on(self, next_owner: Callable[[int], str | None]) -> None:
        """This process closes: another one has to wait for the shards."""
        for shard in list(self._to_come):
            peer = self.neighbours.peers.get(next_owner(shard) or "")
            if peer is not None:
                self._send_on(shard, peer, None)

    def _send_on(self, shard: int, peer: Peer, epoch: int | None) -> None:
        """Send *peer* the descriptions that are older than *epoch*, at which it has got the shard;
        or all, if None."""
        holder = process_of(peer)
        if holder == self.neighbours.shared.me.id:
            return  # it is about to be opened here
        stay = []
        for description in self._to_come.pop(shard, ()):
            if epoch is not None and epoch <= epoch_of(description):
                stay.append(description)  # that is the owner before it was given up
                continue
            for client, *known in clients_of(description):
                its_process = self.neighbours.peers.get(client)
                if its_process is not None:
                    its_process.notify(HELD, [*known, holder])
            peer.notify(SOCKETS, description)
        if stay:
            self._to_come[shard] = stay

    def _came(self, peer: Peer, description: list[Any]) -> None:
        """The sockets of an object that moves here, a little before its shard as a rule."""
        shard = self.disks.shard_of(object_of(description)[1].raw)
        if shard in self.disks.open:
            self._take_over(description)
        else:
            self._to_come.setdefault(shard, []).append(description)
            self.owner_changed(shard)

    def _take_over(self, description: list[Any]) -> None:
        number, object_id = object_of(description)
        cls = entry_of(self.classes, number).cls
        sockets = self.sockets.of_id(object_id, cls, number)
        take_over(self.neighbours.crossing, self.neighbours.peers.get, sockets, description)
