"""How one end of a web socket learns that nobody has the other one any more."""

from __future__ import annotations

from typing import Any, Protocol, Self
from weakref import ref


class Watcher(Protocol):
    """Who wants to know."""

    def peer_is_gone(self) -> None:
        """Told in whatever thread let go of the other end, in the middle of whatever it did, and at
        the end of the interpreter too: it only passes on what has happened."""


class Watch(ref[Any]):
    """One end's watch over the other.

    Not `__del__` of the other: when that is found in a cycle, it does not see this end any more.
    """

    __slots__ = ("watcher",)

    def __new__(cls, other: object, watcher: Watcher) -> Self:
        return super().__new__(cls, other, _is_gone)

    def __init__(self, other: object, watcher: Watcher) -> None:
        # Weakly, as the watcher has the watch.
        self.watcher = ref(watcher)


def _is_gone(watch: ref[Any]) -> None:
    assert isinstance(watch, Watch)
    watcher = watch.watcher()
    if watcher is not None:
        watcher.peer_is_gone()
