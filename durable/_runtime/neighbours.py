"""The other processes of a store: the connections to them, and the notices sent over these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import anyio
from attrs import define, field

from durable._engine.shards import Owned, Process, SharedStore
from durable._gates.futures import PendingAnswer, when_done
from durable._loop.loop import Loop, Waiting
from durable._model.log import log
from durable._shards.known_owners import KnownOwners, Lookout
from durable._wire.authentication import Refused
from durable._wire.crossing import Crossing
from durable._wire.frames import VERSION, VERSION_MIN
from durable._wire.peer import Greeting, Peer
from durable._wire.served import Reach

from .transports import Listening, Transport

VERSION_SPOKEN: Final = VERSION
VERSION_UNDERSTOOD: Final = VERSION_MIN

# The names of notices.
OWNS: Final = "owns"
CHANGED: Final = "changed"
CLASSES: Final = "classes"
# "Send nothing more to me", and the reply: "nothing more comes from me".
BYE: Final = "bye"
BYE_TOO: Final = "bye too"
# How long to wait for that reply.
PARTING_S_MAX: Final = 1.0


@define(eq=False)
class Neighbours:
    """The processes that this one is connected to, itself among them. Only the waits suspend."""

    shared: SharedStore
    transport: Transport
    loop: Loop
    crossing: Crossing
    reach: Reach
    # Called with a shard, or None for all, whose owner has changed or can be reached now.
    on_owner: Callable[[int | None], None]
    # Called when a process came, went, or gave a shard up.
    on_change: Callable[[], None]
    # Called when another process has changed the classes.
    on_classes: Callable[[], None]
    # Whether calls wait for an owner.
    is_waited_for: Callable[[], bool]
    # By process.
    peers: dict[str, Peer] = field(factory=dict, init=False)
    owners: KnownOwners = field(init=False)
    lookout: Lookout = field(init=False)
    # The refusal of a process of another version.
    refused: Refused | None = field(default=None, init=False)
    # All open connections: there are two to a process if both sides have connected at once.
    _met_peers: set[Peer] = field(factory=set, init=False)
    # Processes that send nothing more.
    _heard_out: set[str] = field(factory=set, init=False)
    _connecting: set[str] = field(factory=set, init=False)
    # How often in a row a process could not be reached, and which are not tried just now.
    _failures: Counter[str] = field(factory=Counter, init=False)
    _pausing: dict[str, Waiting] = field(factory=dict, init=False)
    _server: Listening | None = field(default=None, init=False)
    _greeting: Greeting = field(init=False)
    _is_closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        me = self.shared.me
        self.owners = KnownOwners(me.id, self.peers.get, self.on_owner)
        self.crossing.moves.met = self.peers
        self.lookout = Lookout(
            self.loop.call_later,
            self._look_around,
            self.is_waited_for,
            partial(self.on_owner, None),
        )
        self._greeting = Greeting(
            self.shared.identity.encode(), me.id, me.pid, VERSION_SPOKEN, VERSION_UNDERSTOOD
        )
        self.crossing.on_notice[OWNS] = self._owner_changed_at
        self.crossing.on_notice[CHANGED] = lambda peer, value: self.on_change()
        self.crossing.on_notice[BYE] = self._bye_came
        self.crossing.on_notice[BYE_TOO] = self._bye_returned
        self.crossing.on_notice[CLASSES] = lambda peer, value: self.on_classes()

    def listen(self) -> None:
        """Accept connections. Raises OSError."""
        self._server = self.transport.serve(self._greeting, self.crossing, self.reach, self._came)

    async def wait_connected(self, s_max: float) -> None:
        """Return when each connection that is being made stands or has failed, or after *s_max*."""
        with anyio.move_on_after(s_max):
            while self._connecting:
                await anyio.sleep(0.001)

    def meet(self, processes: Iterable[Process]) -> None:
        """Connect to the processes that there is no connection to, this one among them."""
        for process in processes:
            if process.id in self.peers or process.id in self._connecting or self._is_closed:
                continue
            if process.id in self._pausing:
                continue
            self._connecting.add(process.id)
            answer = self.transport.connect(process, self._greeting, self.crossing, self.reach)
            assert isinstance(answer, PendingAnswer)
            when_done(answer, partial(self._connected, process.id, answer))

    def _connected(self, process: str, answer: PendingAnswer[Peer]) -> None:
        self._connecting.discard(process)
        error = answer.error
        if error is None:
            del self._failures[process]
            self._met(answer._value)
            return
        if isinstance(error, Refused):
            self.refused = error
        # Otherwise it is about to listen, or gone: it is tried again at another look.
        self._pause(process)

    def _pause(self, process: str) -> None:
        """Do not try to connect with a process for a while."""
        pauses_s = self.transport.pauses_s
        if not pauses_s or self._is_closed:
            return
        pause_s = pauses_s[min(self._failures[process], len(pauses_s) - 1)]
        self._failures[process] += 1

        def over() -> None:
            del self._pausing[process]
            self.on_change()

        self._pausing[process] = self.loop.call_later(pause_s, over)

    def _came(self, peer: Peer) -> None:
        """A process has connected with this one."""
        if process_of(peer) != self.shared.me.id:
            self._met(peer)
            self.on_change()

    def _met(self, peer: Peer) -> None:
        if self._is_closed:
            peer.close()
            return
        process = process_of(peer)
        known = self.peers.get(process)
        if known is None or known.is_gone:  # else both have connected at once: one is enough
            self.peers[process] = peer
        self._met_peers.add(peer)
        peer.on_gone.append(partial(self._gone, process, peer))
        for shard, epoch in self.owners.mine():
            peer.notify(OWNS, [shard, epoch, self.shared.me.id])
        self.on_owner(None)

    def _gone(self, process: str, peer: Peer, why: str) -> None:
        self._met_peers.discard(peer)
        if self.peers.get(process) is peer:
            del self.peers[process]
            for other in self._met_peers:
                if process_of(other) == process and not other.is_gone:
                    self.peers[process] = other
            if process not in self.peers:
                self.crossing.moves.gone(process)
        if not self._is_closed:
            self.on_change()

    def notify_all(self, name: str, value: Any = None) -> None:
        """Send a notice to all other processes."""
        for process, peer in self.peers.items():
            if process != self.shared.me.id:
                peer.notify(name, value)

    # Owners

    def has(self, shard: int, owned: Owned) -> None:
        """This process has acquired a shard, or given it up: notify the others."""
        self.notify_all(OWNS, [shard, owned.epoch, owned.owner])
        self.owners.has_changed(shard, owned)

    def _owner_changed_at(self, peer: Peer, value: Any) -> None:
        shard, epoch, owner = value
        self.owners.hear(int(shard), Owned(owner, int(epoch)))
        if owner is None:
            self.on_change()

    def look_for(self, shard: int) -> None:
        """The owner of a shard is not known, or has turned out to be another: find out."""
        self.lookout.look_soon()

    def _look_around(self) -> None:
        self.shared.look_soon()
        try:
            self.read_owners()
            self.meet(self.shared.processes())
        except OSError as error:
            log.error("the owners of the shards cannot be read: %s", error)

    def read_owners(self) -> None:
        """Read the owners of the shards from the store."""
        for shard, owned in enumerate(self.shared.owners()):
            self.owners.hear(shard, owned)

    # The end

    def _bye_came(self, peer: Peer, value: Any) -> None:
        """The peer is about to close the connection: calls that it gets before this process's reply
        are sent back, and later ones would be lost."""
        process = process_of(peer)
        self.owners.parts(process)
        # Over the connection that calls were sent over, if each side has made one.
        self.peers.get(process, peer).notify(BYE_TOO, None)

    def _bye_returned(self, peer: Peer, value: Any) -> None:
        self._heard_out.add(process_of(peer))

    async def wait_parted(self) -> None:
        """Return when no call is on its way to this process any more, or after a bounded time."""
        self.notify_all(BYE)
        with anyio.move_on_after(PARTING_S_MAX):
            while set(self.peers) - self._heard_out - {self.shared.me.id}:
                await anyio.sleep(0.001)

    def close(self) -> None:
        """End all connections."""
        self._is_closed = True
        self.lookout.close()
        for pause in self._pausing.values():
            pause.cancel()
        for peer in list(self._met_peers):
            peer.close("the other process has closed the store")
        self.peers.clear()
        if self._server is not None:
            self._server.close()
        self.transport.close()


def process_of(peer: Peer) -> str:
    """The name of a process, as it has given it itself."""
    assert peer.greeting is not None
    return peer.greeting.process
