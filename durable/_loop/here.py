"""The thread that code runs in, as a number; a forked child has none of its parent's.

What belongs to one thread keeps its `thread()` and compares. That is the whole cost: the number of
a thread stays the same in a forked child, so there `thread` itself is replaced by another function.

Rule: always call it as `here.thread()`; a name that was imported would be the parent's for good.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import get_ident

# In the child of a child too, so that it is a number of no process before.
_forks = 0

thread: Callable[[], int] = get_ident


def thread_now() -> int:
    """`thread()`, for when a function has to be stored."""
    return thread()


def _thread_in_child() -> int:
    return (_forks << 64) + get_ident()


def _forked() -> None:
    global _forks, thread  # noqa: PLW0603 - so that it costs nothing before
    _forks += 1
    thread = _thread_in_child


os.register_at_fork(after_in_child=_forked)
