"""Code of a broken object that has not ended when its time to clean up was over: it is abandoned.

Closing it would run its `finally` and `except` blocks beside the object's successor, and in another
task than theirs. It is freed without being run where Python can do that (`_cpython/abandon.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from durable._cpython.abandon import abandon as free_unrun
from durable._loop.loop import Loop
from durable._model.log import log

# So many that are kept in memory are no accident any more.
KEPT_WARNING = 1_000

# How many coroutines of each runtime were abandoned.
_abandoned: WeakKeyDictionary[Loop, int] = WeakKeyDictionary()


class Abandoned(BaseException):
    """The object is broken, and its code is not to run any more."""


def abandon(coro: object, loop: Loop) -> None:
    """Let nothing of a suspended coroutine run ever again."""
    _abandoned[loop] = number = abandoned_in(loop) + 1
    if not free_unrun(coro) and number == KEPT_WARNING:
        log.warning(
            "%d coroutines of objects that were reset while they waited are kept in memory: this "
            "Python cannot free them without running their code; see to what resets the objects",
            number,
        )


def abandoned_in(loop: Loop) -> int:
    """How many coroutines of the runtime on *loop* were abandoned so far."""
    return _abandoned.get(loop, 0)


def abandon_unbegun(coro: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine that has not begun: not a line of it runs, nor of what it would run."""
    with warnings.catch_warnings():
        # Python warns of a coroutine that is never awaited; this one never will be, on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Not `close`, which since Python 3.13 would leave its contents to be freed later.
        with suppress(Abandoned):
            coro.throw(Abandoned())
