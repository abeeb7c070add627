"""The interface of a store of shards, which several processes share.

Each shard has one owner at a time, a process, and an epoch that rises with each change of owner.
Which process should own which shard is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
    """The object does not belong to this process now: nothing has begun; find its owner again."""


@frozen
class Process:
    """A process that has the store open, by its own account."""

    id: str  # unlike that of any other, ever
    pid: int
    address: str  # where it listens
    version: str
    # It requires to be the only process of the store; it does not listen.
    is_alone: bool = False
    # "starting", then "ready" to own shards, then "leaving".
    state: str = "starting"


@frozen
class Owned:
    """The last owner of a shard, and its epoch. The owner may be dead by now."""

    owner: str | None
    epoch: int = 0


class SharedStore(Protocol):
    """A store of shards, for one of the processes that have it. For the loop's thread; blocks."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""

    @property
    def identity(self) -> str:
        """The id of the store, wherever it is mounted."""

    @property
    def count(self) -> int:
        """How many shards it has, for ever."""

    @property
    def me(self) -> Process:
        """This process, as the others see it."""

    # The processes

    def join(self) -> None:
        """Join the processes of the store. The address is already listened at."""

    def say(self, state: str) -> None:
        """Change the state of this process."""

    def folder(self) -> str:
        """A folder of this process alone, removed with it."""

    def address(self, process: Process) -> str:
        """The address of a process, as this one can use it."""

    def processes(self) -> list[Process]:
        """The living processes, this one too once it has joined."""

    def is_alive(self, process: str) -> bool:
        """Whether a process is alive, as far as is known; a stopped one is."""

    # The shards

    def owners(self) -> Sequence[Owned]:
        """The present or last owners of the shards by number."""

    @property
    def has_one_engine(self) -> bool:
        """Whether all shards that this process owns have the same engine, which rings no alarms of
        a shard that is given up, and stays open until the process leaves."""

    def acquire_some(self, shards: Sequence[int]) -> Mapping[int, Engine]:
        """Own those of *shards* that are free. With one engine for all, by one statement."""

    def acquire(self, shard: int) -> Engine | None:
        """Own a shard, and return its engine, which knows the classes of the store; None while
        another process owns it. May be called in another thread, once for a shard at a time."""

    def has(self, shard: int) -> Owned:
        """The shard, which is owned, can be called by others: record its owner for them."""

    def follow(self, shard: int) -> None:
        """Read the classes of the store anew for a shard that is owned."""

    def lost(self, shards: Collection[int]) -> list[int]:
        """Those of *shards*, owned as far as the caller knows, that were found to belong to another
        process since."""

    def release(self, shard: int) -> Owned:
        """Release the shard for others, and close its engine; returns its last owner."""

    # The lease

    @property
    def lease(self) -> Lease | None:
        """The lease by which shards are owned, if ownership can end without this process's doing;
        None if it ends with the process."""

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        """Renew the lease from now on; in another thread, *on_news* is called when processes or
        owners have changed, and *on_lost*, once, when the lease is over."""

    def look_soon(self) -> None:
        """Read the processes and owners, if each call does not read them anyway; `on_news` is
        called."""

    def refresh(self) -> None:
        """The same now, and publish the state of this process. For a thread. Raises
        StoreUnavailable."""

    def lose(self) -> None:
        """The lease is over: nothing is owned, and nothing more is stored."""

    def join_again(self) -> None:
        """Join the processes again, after `lose`, once all that was submitted before has an
        outcome. For a thread; `start` must follow. Raises what `join` raises."""

    # The classes

    def catalog(self) -> Catalog:
        """The classes and migrations of the store."""

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        """Replace *before* by *after*; returns False, and changes nothing, if it is another one."""

    # The end

    def leave(self) -> None:
        """Leave the store; all shards are released."""
