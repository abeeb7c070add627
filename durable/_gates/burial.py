"""Burial: what becomes of code of a broken object that does not end when it is told to.

It is never to go on, and not to be closed either: Python closes a coroutine that nobody has any
more by throwing GeneratorExit into it, and that would run the author's `finally` and `except`
beside the object's successor, in another task than theirs.

Python runs the finalizer of an object once at most (PEP 442), and closing is the finalizer of what
has a suspended frame. So code that is buried is marked as finalized: when its last reference goes,
its frame is freed with all that it has, and not a line of it runs. `gc.is_finalized` tells of the
mark, and nothing sets it but the interpreter and this file. Where it is not found in the place that
is known, nothing is marked; what is buried is then kept as long as the process lives.

Rule: marked is what only the buried code can go on with, and never what somebody else has too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from operator import is_
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from durable._loop.cpython import BORROWS
from durable._loop.loop import Loop
from durable._loop.sleeping import forget_timer
from durable._model.log import log

# From so many on that are kept for good, they are no accident any more.
KEPT_WARNING = 1_000

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
_FINALIZED = 1

# How many coroutines of each runtime were buried.
_buried: WeakKeyDictionary[Loop, int] = WeakKeyDictionary()


def bury(coro: object, loop: Loop) -> None:
    """Let nothing of a suspended coroutine run ever again."""
    _buried[loop] = number = buried_in(loop) + 1
    if CAN_MARK:
        for code in list(_only_in(coro)):
            _mark(code)
            forget_timer(code)
        return
    # One reference more than anyone will give back.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coro))
    if number == KEPT_WARNING:
        log.warning(
            "%d coroutines of objects that were reset while they waited are kept in memory: this "
            "Python cannot free them without running their code; see to what resets the objects",
            number,
        )


def buried_in(loop: Loop) -> int:
    """How many coroutines of the runtime on *loop* were buried so far."""
    return _buried.get(loop, 0)


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
    """What *code* is inside of: nobody else can go on with that."""
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
    """What the variables, loops and `with` blocks of *code* have, and nobody else."""
    held = gc.get_referents(code)
    for value in held:
        # Not isinstance, here and below: it asks what is no such thing for its `__class__`, and
        # that of a proxy is somebody's code.
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
    """The code of a context manager, which only the one who has entered it goes on with."""
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


# The mark


def _mark(code: object) -> None:
    if not gc.is_finalized(code):
        _word_before(code).value |= _FINALIZED


def _word_before(thing: object) -> ctypes.c_size_t:
    """The last word of what the collector has before each object."""
    return ctypes.c_size_t.from_address(id(thing) - ctypes.sizeof(ctypes.c_size_t))


class _Ending:
    """Something with a finalizer."""

    def __del__(self) -> None: ...


def _is_mark_known() -> bool:
    """Whether the mark is where we look for it: looked for before anything is written."""
    if not BORROWS or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    for _ in range(4):
        thing = _Ending()
        if gc.is_finalized(thing) or _word_before(thing).value & _FINALIZED:
            return False
        ctypes.pythonapi.PyObject_CallFinalizer(ctypes.py_object(thing))
        if not gc.is_finalized(thing) or not _word_before(thing).value & _FINALIZED:
            return False
    return True


def _borrowed() -> int:
    """How many references the count of them in `_owned` has of its own."""
    held = [object()]
    for value in held:
        return sys.getrefcount(value) - len(held)
    raise AssertionError


CAN_MARK = _is_mark_known()
_BORROWED = _borrowed()
