"""The owner of each shard, as far as one process knows it, and how it finds out.

What other processes report is believed at once if it is newer than what is known, since a wrong
guess costs one call that is sent back. An owner that none has reported is read from the store, for
as long as calls wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from attrs import define, field

from durable._loop.loop import Waiting

from .lines import Owner, Peer

# Pauses between reads while calls wait for the owner of a shard, the last one from then on.
LOOKS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2)


class Owned(Protocol):
    """The last owner of a shard, and its epoch: the number of that change of owner."""

    @property
    def owner(self) -> str | None: ...
    @property
    def epoch(self) -> int: ...


@define(eq=False)
class KnownOwners:
    """The owners that one process knows. Nothing here suspends."""

    me: str
    # The process of that name if it is connected, or None.
    peer_of: Callable[[str], Peer | None]
    # Called with a shard, or None for all, whose owner has changed or can be reached now.
    on_owner: Callable[[int | None], None]
    # By shard; no entry until something was heard of it.
    _owned: dict[int, Owned] = field(factory=dict, init=False)
    # Processes that are closing and take nothing more.
    _parting: set[str] = field(factory=set, init=False)

    def owner_of(self, shard: int) -> Owner | None:
        """The owner of a shard, if it is known and can be reached."""
        owned = self._owned.get(shard)
        if owned is None or owned.owner is None or owned.owner in self._parting:
            return None
        peer = self.peer_of(owned.owner)
        return None if peer is None or peer.is_gone else Owner(peer, owned.epoch)

    def epoch_of(self, shard: int) -> int:
        """The number of the last change of owner that is known."""
        owned = self._owned.get(shard)
        return 0 if owned is None else owned.epoch

    def mine(self) -> Iterator[tuple[int, int]]:
        """The shards of this process, each with its epoch."""
        for shard, owned in self._owned.items():
            if owned.owner == self.me:
                yield shard, owned.epoch

    def has_changed(self, shard: int, owned: Owned) -> None:
        """This process has acquired a shard, or has given it up."""
        self._owned[shard] = owned
        self.on_owner(shard)

    def hear(self, shard: int, owned: Owned) -> None:
        """Another process, or the store, gives this owner: believe it if it is newer."""
        known = self._owned.get(shard)
        if known is None or _is_newer(owned, known):
            self._owned[shard] = owned
            self.on_owner(shard)

    def parts(self, process: str) -> None:
        """A process is closing, and gives back all that comes from now on."""
        self._parting.add(process)


def _is_newer(owned: Owned, known: Owned) -> bool:
    """Within one epoch a shard is owned first, and then free. A second owner at one epoch has it by
    a database that has lost the claim of the first, since a standby has taken its place."""
    if owned.epoch == known.epoch:
        return known.owner is not None and owned.owner != known.owner
    return owned.epoch > known.epoch


@define(eq=False)
class Lookout:
    """Reads the owners from the store for as long as calls wait for one, and ever less often."""

    call_later: Callable[[float, Callable[[], None]], Waiting]
    read: Callable[[], None]
    # Whether calls wait for an owner.
    is_waited_for: Callable[[], bool]
    # Lets the calls that wait try again; those that still wait afterwards start another look.
    try_again: Callable[[], None]
    _next: Waiting | None = field(default=None, init=False)
    _looks: int = field(default=0, init=False)
    _is_closed: bool = field(default=False, init=False)

    def look_soon(self) -> None:
        """The owner of a shard is not known, or has turned out to be another: find out."""
        if self._next is None and not self._is_closed:
            pause_s = LOOKS_S[min(self._looks, len(LOOKS_S) - 1)]
            self._looks += 1
            self._next = self.call_later(pause_s, self._look)

    def _look(self) -> None:
        self._next = None
        if self._is_closed:
            return
        self.read()
        if self.is_waited_for():
            self.try_again()
        else:
            self._looks = 0

    def close(self) -> None:
        self._is_closed = True
        if self._next is not None:
            self._next.cancel()
