"""The connections of one simulated process to the others, and the notices that are sent over them:
what `Neighbours` does, without a wait."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from tests.simulated.network import End, Listeners

from .simulated_calls import Ended, Sent, SimulatedPeer
from .simulated_folder import Owned

if TYPE_CHECKING:
    from .simulated_process import SimulatedProcess


@frozen
class Owns:
    shard: int
    owned: Owned


CHANGED, BYE, BYE_TOO = "changed", "bye", "bye too"


@define(eq=False)
class SimulatedNeighbours:
    """The processes that one is connected to, itself among them."""

    process: SimulatedProcess
    peers: dict[str, SimulatedPeer] = field(factory=dict, init=False)
    # Processes to which a connection is being made.
    connecting: set[str] = field(factory=set, init=False)
    _met: dict[SimulatedPeer, None] = field(factory=dict, init=False)
    # Processes that send nothing more.
    _heard_out: set[str] = field(factory=set, init=False)

    def meet(self) -> None:
        """Connect to all processes that there is no connection to."""
        process = self.process
        simulation = process.simulation
        for name in simulation.folder.states:
            if name in self.peers or name in self.connecting or process.is_closed:
                continue
            self.connecting.add(name)
            other = simulation.processes[name]
            simulation.network.connect(
                process.machine,
                other.machine,
                other.neighbours.came,
                partial(self._connected, name),
                partial(self.connecting.discard, name),
            )

    def came(self, end: End) -> Listeners:
        """Another process has connected to this one."""
        name = end.link.other(end).machine.name
        if name == self.process.name:
            return self._listeners(self.process.simulation.parts.peer(name, end))
        listeners = self._met_at(name, end)
        self.process.something_changed()
        return listeners

    def notify_all(self, notice: Any) -> None:
        for name, peer in self.peers.items():
            if name != self.process.name:
                peer.end.send(notice)

    def have_parted(self) -> bool:
        """Whether no other process sends anything more."""
        return not set(self.peers) - self._heard_out - {self.process.name}

    def close(self) -> None:
        for peer in list(self._met):
            peer.end.link.break_()

    def _connected(self, name: str, end: End) -> Listeners:
        self.connecting.discard(name)
        return self._met_at(name, end)

    def _met_at(self, name: str, end: End) -> Listeners:
        process = self.process
        peer = process.simulation.parts.peer(name, end)
        if process.is_closed:
            end.link.break_()
            return self._listeners(peer)
        known = self.peers.get(name)
        if known is None or known.is_gone:
            self.peers[name] = peer
        self._met[peer] = None
        for shard, epoch in process.owners.mine():
            end.send(Owns(shard, Owned(process.name, epoch)))
        process.owner_changed(None)
        return self._listeners(peer)

    def _listeners(self, peer: SimulatedPeer) -> Listeners:
        return partial(self._hear, peer), partial(self._gone, peer)

    def _gone(self, peer: SimulatedPeer, unsent: list[Any]) -> None:
        peer.gone(unsent)
        if peer not in self._met:
            return
        del self._met[peer]
        if self.peers.get(peer.process) is peer:
            del self.peers[peer.process]
            for other in self._met:
                if other.process == peer.process and not other.is_gone:
                    self.peers[peer.process] = other
        if not self.process.is_closed:
            self.process.something_changed()

    def _hear(self, peer: SimulatedPeer, message: Any) -> None:
        process = self.process
        if isinstance(message, Sent):
            process.serve(peer, message)
        elif isinstance(message, Ended):
            peer.ended(message)
        elif isinstance(message, Owns):
            process.owners.hear(message.shard, message.owned)
            if message.owned.owner is None:
                process.something_changed()
        elif message == CHANGED:
            process.something_changed()
        elif message == BYE:
            process.owners.parts(peer.process)
            self.peers.get(peer.process, peer).end.send(BYE_TOO)
        else:
            self._heard_out.add(peer.process)
