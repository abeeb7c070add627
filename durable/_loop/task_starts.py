"""Shows every task that starts in the loop to a function that may wrap its coroutine.

On asyncio a task factory does that, chained to the one before it; on Trio an instrument. One of
them serves all runtimes of a loop, and is removed with the last of them.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from attrs import define, field

AnyCoroutine = Coroutine[Any, Any, Any]

# Called in the context of the task's starter; returns the coroutine that the task is to run.
Wrap = Callable[[AnyCoroutine], AnyCoroutine]


class TaskStarts(Protocol):
    """Watches the starts of one loop's tasks."""

    def close(self) -> None: ...


@define(eq=False)
class _Factory:
    """The task factory of one asyncio loop, and how many runtimes use it."""

    wrap: Wrap
    loop: asyncio.AbstractEventLoop
    before: Callable[..., Any] | None
    users: int = 0
    installed: Callable[..., Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # anyio's task groups recognize asyncio's own eager factories by their code, and start no
        # task eagerly through one, since they could not track it. So this stays one of its kind.
        self.installed = self
        if sys.version_info >= (3, 12):
            make = _constructor_in(self.before)
            if make is not None:

                def constructor(coro: AnyCoroutine, **options: Any) -> Any:
                    return make(self.wrap(coro) if self.users else coro, **options)

                self.installed = asyncio.create_eager_task_factory(cast("Any", constructor))

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: AnyCoroutine, **options: Any
    ) -> asyncio.Future[Any]:
        # After close() it may still be installed, chained under a factory that came later.
        if self.users:
            coro = self.wrap(coro)
        if self.before is not None:
            task: asyncio.Future[Any] = self.before(loop, coro, **options)
            return task
        return asyncio.Task(coro, loop=loop, **options)

    def close(self) -> None:
        self.users -= 1
        if not self.users:
            _factories.pop(self.loop, None)
            present: object = self.loop.get_task_factory()
            if present is self.installed:
                self.loop.set_task_factory(self.before)


def _constructor_in(factory: Any) -> Callable[..., Any] | None:
    """The class of tasks in an eager task factory of asyncio's; None for any other factory."""
    if sys.version_info < (3, 12) or (
        getattr(factory, "__code__", None) is not asyncio.eager_task_factory.__code__
    ):
        return None
    constructor: Callable[..., Any] = factory.__closure__[0].cell_contents
    return constructor


_factories: WeakKeyDictionary[asyncio.AbstractEventLoop, _Factory] = WeakKeyDictionary()


def watch_asyncio(wrap: Wrap) -> TaskStarts:
    """Show *wrap* every task that the running asyncio loop starts, until closed."""
    loop = asyncio.get_running_loop()
    factory = _factories.get(loop)
    present: object = loop.get_task_factory()
    if factory is None or present is not factory.installed:
        factory = _factories[loop] = _Factory(wrap, loop, loop.get_task_factory())
        loop.set_task_factory(cast("Any", factory.installed))
    factory.users += 1
    return factory


def watch(backend: str, wrap: Wrap) -> TaskStarts:
    """Show *wrap* every task that the running loop starts, until closed."""
    if backend == "asyncio":
        return watch_asyncio(wrap)
    # By name, since Trio is installed only where programs run on it.
    watched: TaskStarts = importlib.import_module("durable._loop.trio_starts").watch_trio(wrap)
    return watched
