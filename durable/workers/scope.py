"""The scope of a Worker's running code: its `env`, and where its background work goes.

`from workers import env, wait_until` find it here, wherever the code runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from attrs import frozen

from .errors import NotHere


@frozen
class Scope:
    """One Worker, or one object of it."""

    env: Any
    wait_until: Callable[[Awaitable[object]], None] | None = None
    # For an object: waits until what it has written is on disk.
    confirmed: Callable[[], Awaitable[None]] | None = None


_current: ContextVar[Scope | None] = ContextVar("durable.workers scope", default=None)


@contextmanager
def running(scope: Scope) -> Iterator[None]:
    """Within the block, code runs for *scope*; so do the tasks that it starts."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


def scope_of(what: str) -> Scope:
    """The scope of the running code; *what* it is needed for is named if there is none."""
    scope = _current.get()
    if scope is None:
        raise NotHere(f"{what} can be used while a Worker runs, and none does here")
    return scope


async def confirm() -> None:
    """Called before anything is sent by a way that the runtime does not see: an object waits until
    what it has written is on disk."""
    scope = _current.get()
    if scope is not None and scope.confirmed is not None:
        await scope.confirmed()
