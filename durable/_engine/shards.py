"""A store of shards, which several processes share: what is asked of whoever keeps it.

Each shard has one owner at a time, a process, and an epoch that rises with each change of owner.
Which process should have which shard is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from attrs import frozen

from durable._model.ids import BASE_SIZE

from .catalog import Catalog
from .engine import Engine

SHARDS_DEFAULT: Final = 16
SHARDS_MAX: Final = 1_024


def shard_of(base: bytes, count: int) -> int:
    """The shard of an object, for ever. Bases are spread evenly: they are hashes, or random."""
    return int.from_bytes(base[BASE_SIZE - 8 : BASE_SIZE], "big") % count


class NotOwner(Exception):
    """Another process owns the shard of the object, or none does: nothing was begun here."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard} is not owned by this process")
        self.shard = shard


@frozen
class Process:
    """A process that has the store open, as it has said itself."""

    id: str  # unlike that of any other, ever
    pid: int
    address: str  # where it listens
    version: str
    # Nobody else may have the store meanwhile; it does not listen.
    is_alone: bool = False


@frozen
class Owned:
    """Who had a shard last, and which change of owner that was. An owner may be dead by now."""

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

    def processes(self) -> list[Process]:
        """Those that live, this one too once it has joined."""

    def is_alive(self, process: str) -> bool:
        """Whether a process lives, as far as is known; a stopped one does."""

    # The shards

    def owners(self) -> Sequence[Owned]:
        """Who has, or had, which shard, by number."""

    def acquire(self, shard: int) -> Engine | None:
        """Own a shard, and give its engine, which knows the classes of the store; None while
        another process has it."""

    def release(self, shard: int) -> None:
        """Let others have the shard. Its engine is closed."""

    def valid_until(self) -> float:
        """Until when, by the steady clock, what is owned is owned without being renewed."""

    # The classes

    def catalog(self) -> Catalog:
        """The classes and migrations of the store."""

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        """Know *after*, where *before* is known; False, and nothing is changed, if it is not."""

    # The end

    def leave(self) -> None:
        """Be no process of the store any more; all shards are released."""
