"""How one end of a web socket learns that the other one was dropped.

Rule: a watch only reports. It is called back by whatever freed the other end: in any thread, in the
middle of any statement, and as the interpreter exits.
"""

from __future__ import annotations

from typing import Any, Protocol, Self
from weakref import ref


class Watcher(Protocol):
    """Notified when the other end is freed."""

    def peer_is_gone(self) -> None:
        """The other end was freed. Called in any thread; must only pass this on."""


class Watch(ref[Any]):
    """A weak reference to the other end, which notifies *watcher* when that is freed.

    Not `__del__` of the other end: in a cycle, that runs when the weak reference back is cleared
    already.
    """

    __slots__ = ("watcher",)

    def __new__(cls, other: object, watcher: Watcher) -> Self:
        return super().__new__(cls, other, _freed)

    def __init__(self, other: object, watcher: Watcher) -> None:
        # Weak, since the watcher holds the watch.
        self.watcher = ref(watcher)


def _freed(watch: ref[Any]) -> None:
    assert isinstance(watch, Watch)
    watcher = watch.watcher()
    if watcher is not None:
        watcher.peer_is_gone()
