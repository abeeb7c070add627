"""A store of shards, which several processes share: the interface to what keeps it.

Each shard has one owner at a time, a process, and an epoch that rises with each change of owner.
Which process should have which shard is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from attrs import frozen

from durable._model.ids import BASE_SIZE

from .catalog import Catalog
from .engine import Engine
from .lease import Lease

SHARDS_DEFAULT: Final = 16
SHARDS_MAX: Final = 1_024


def shard_of(base: bytes, count: int) -> int:
    """The shard of an object, for ever. Bases are spread evenly: they are hashes, or random."""
    return int.from_bytes(base[BASE_SIZE - 8 : BASE_SIZE], "big") % count


class NotOwner(Exception):
    """The object is not this process's now: nothing has begun, and the caller is to look anew."""


@frozen
class Process:
    """A process that has the store open, as it has said itself."""

    id: str  # unlike that of any other, ever
    pid: int
    address: str  # where it listens
    version: str
    # No other process may have the store meanwhile; this one does not listen.
    is_alone: bool = False
    # "starting", then "ready" to have shards, then "leaving".
    state: str = "starting"


@frozen
class Owned:
    """The last owner of a shard, and which change of owner that was. It may be dead by now."""

    owner: str | None
    epoch: int = 0


class SharedStore(Protocol):
    """A store of shards, as one of the processes that have it. For the loop's thread; blocks."""

    @property
    def path(self) -> str:
        """Where it is, as messages call it."""

    @property
    def identity(self) -> str:
        """Which store it is, wherever it is mounted."""

    @property
    def count(self) -> int:
        """How many shards it has, for ever."""

    @property
    def me(self) -> Process:
        """This process, as the others see it."""

    # The processes

    def join(self) -> None:
        """Be among the processes from now on. The address is listened at."""

    def say(self, state: str) -> None:
        """Be in another state from now on."""

    def folder(self) -> str:
        """A folder of this process alone, gone with it."""

    def address(self, process: Process) -> str:
        """Where a process listens, as this one can use it."""

    def processes(self) -> list[Process]:
        """Those that live, this one too once it has joined."""

    def is_alive(self, process: str) -> bool:
        """Whether a process lives, as far as is known; a stopped one does."""

    # The shards

    def owners(self) -> Sequence[Owned]:
        """The owners, present or last, of the shards by number."""

    @property
    def has_one_engine(self) -> bool:
        """Whether all shards that this process owns have the same engine, which silences a shard
        that is given up, and stays open until the process leaves."""

    def acquire_some(self, shards: Sequence[int]) -> Mapping[int, Engine]:
        """Own those of *shards* that nobody else has. For a store with one engine, at once."""

    def acquire(self, shard: int) -> Engine | None:
        """Own a shard, and give its engine, which knows the classes of the store; None while
        another process has it. May be called in another thread, once for a shard at a time."""

    def has(self, shard: int) -> Owned:
        """The shard, which is owned, is ready to be called by others: let them know its owner."""

    def follow(self, shard: int) -> None:
        """Let a shard that is owned know the classes of the store as they are now."""

    def release(self, shard: int) -> Owned:
        """Let others have the shard, and close its engine; returns its last owner."""

    # The lease

    @property
    def lease(self) -> Lease | None:
        """What shards are owned by, where that may end without this process's doing; None where
        ownership ends with the process."""

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        """Renew the lease from now on; in another thread, *on_news* is told of processes and owners
        that have changed, and *on_lost*, once, of the end of the lease."""

    def look_soon(self) -> None:
        """Read who is there and who owns what, if that is not read at each call; `on_news` is
        told."""

    def refresh(self) -> None:
        """The same now, and let others see what this process has said. For a thread. Raises
        StoreUnavailable."""

    def lose(self) -> None:
        """The lease is over: nothing is owned, and nothing more is stored."""

    def join_again(self) -> None:
        """Be among the processes again, after `lose`, once all that was submitted before is
        answered. For a thread; `start` is to follow. Raises what `join` raises."""

    # The classes

    def catalog(self) -> Catalog:
        """The classes and migrations of the store."""

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        """Know *after*, where *before* is known; False, and nothing is changed, if it is not."""

    # The end

    def leave(self) -> None:
        """Be no process of the store any more; all shards are released."""
