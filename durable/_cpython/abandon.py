"""Abandoned code: suspended code that is freed, with all that only it has, and never runs again.

Python closes a coroutine that nothing refers to any more by throwing GeneratorExit into it, which
runs its `finally` and `except` blocks, whenever and wherever that happens. So abandoned code is
marked as finalized (`finalized.py`), and is freed without that. Where it cannot be marked, it is
kept in memory as long as the process lives.

Rule: mark only what is reachable from the abandoned frame alone.

Relies on reference counts, on `gc.get_referents` of coroutines, and on the type names of `_LINKS`.
Versions: CPython 3.11 to 3.14; `tests/cpython` has each kind of suspended code. What is behind a
link of an unknown type is closed as Python does it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from functools import partial
from operator import is_
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import Any

from . import finalized
from .sleep_timers import cancel_sleep_timer

SUSPENDABLE = (CoroutineType, GeneratorType, AsyncGeneratorType)
# What Python puts between a frame and what that waits for; they have no names of their own.
_LINKS = frozenset(
    {
        "coroutine_wrapper",
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
    }
)


def abandon(coro: object) -> bool:
    """Let nothing of a suspended coroutine run ever again; returns whether it can be freed."""
    if not finalized.CAN_MARK:
        finalized.keep_forever(coro)
        return False
    for code in list(_only_in(coro)):
        finalized.mark_finalized(code)
        cancel_sleep_timer(code)
    return True


def _only_in(coro: object) -> Iterator[object]:
    """*coro*, and what is suspended inside of it and goes with it."""
    found = [coro]
    seen = {id(coro)}
    while found:
        code = found.pop()
        yield code
        for inner in (*_waited_for(code), *_owned(code)):
            if id(inner) not in seen:
                seen.add(id(inner))
                found.append(inner)


def _waited_for(code: Any) -> Iterator[object]:
    """What *code* awaits: only *code* can resume that."""
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        inner = getattr(code, name, None)
        if inner is not None:
            yield from _behind(inner)


def _behind(value: object) -> Iterator[object]:
    """The code that *value* stands for, if it is a link to some."""
    kind = type(value)
    if kind in SUSPENDABLE:
        yield value
    elif kind.__name__ in _LINKS:
        for inner in gc.get_referents(value):
            yield from _behind(inner)


def _owned(code: object) -> Iterator[object]:
    """What only the variables, loops and `with` blocks of *code* refer to."""
    held = gc.get_referents(code)
    for value in held:
        # Not isinstance, here and below: it asks what is no such thing for its `__class__`, and
        # that of a proxy is a program's code.
        if type(value) in SUSPENDABLE:
            # Each reference of *code* is one here too.
            times = 2 * sum(map(partial(is_, value), held))
            if sys.getrefcount(value) - _BORROWED <= times:
                yield value
        elif type(value).__name__ in _LINKS:
            yield from _behind(value)
        else:
            yield from _entered(value)


def _entered(value: Any) -> Iterator[object]:
    """The code of a context manager, which only the code that has entered it goes on with."""
    if type(value) is MethodType:  # its `__exit__`
        value = value.__self__
    kind = type(value)
    if issubclass(kind, contextlib._GeneratorContextManagerBase):
        yield value.gen
    elif issubclass(kind, contextlib.closing | contextlib.aclosing):
        yield from _behind(getattr(value, "thing", None))
    elif issubclass(kind, contextlib._BaseExitStack):
        for _, leave in getattr(value, "_exit_callbacks", ()):
            yield from _entered(leave)


def _borrowed() -> int:
    """How many references the count of them in `_owned` has of its own."""
    held = [object()]
    for value in held:
        return sys.getrefcount(value) - len(held)
    raise AssertionError


_BORROWED = _borrowed()
