"""Values that pass between the event loop and the threads that wait for it.

Plain values pass as they are. What belongs to the loop comes out in a wrapper of its kind, and goes
in again as what the wrapper holds; also inside lists, tuples, sets and dicts.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from .loop_thread import LoopThread

T = TypeVar("T")

# Types that need no search: the common results of calls.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Wrapper(Generic[T]):
    """Holds what belongs to the loop, for other threads."""

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, inner: T) -> None:
        self._thread = thread
        self._inner = inner

    def __repr__(self) -> str:
        return f"<blocking {repr(self._inner).strip('<>')}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapper) and bool(self._inner == other._inner)

    def __hash__(self) -> int:
        return hash(self._inner)


def outward(thread: LoopThread, value: Any) -> Any:
    """*value*, which came from the loop, for other threads."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    for base in kind.__mro__[:-1]:
        wrap = thread.wrappers.get(base)
        if wrap is not None:
            return wrap(thread, value)
    if kind is list:
        return [outward(thread, item) for item in value]
    if kind is tuple:
        return tuple([outward(thread, item) for item in value])
    if kind is dict:
        return {key: outward(thread, item) for key, item in value.items()}
    if kind is set or kind is frozenset:
        return kind([outward(thread, item) for item in value])
    return value


def inward(value: Any) -> Any:
    """*value*, which goes to the loop, as it is there."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Wrapper):
        return value._inner
    if kind is list:
        return [inward(item) for item in value]
    if kind is tuple:
        return tuple([inward(item) for item in value])
    if kind is dict:
        return {key: inward(item) for key, item in value.items()}
    if kind is set or kind is frozenset:
        return kind([inward(item) for item in value])
    return value
