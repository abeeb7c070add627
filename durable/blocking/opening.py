"""Opens stores for threads that wait, and closes at the end of the program those still open."""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import durable
from durable._model.log import log

from .loop_thread import LoopThread, Opening
from .runtime import Namespace, Runtime
from .stub import RemoteFunction, Response, Stream, wrap_stub

P = ParamSpec("P")

WRAPPERS: dict[type, Callable[[LoopThread, Any], Any]] = {
    durable.Namespace: Namespace,
    durable.Stub: wrap_stub,
    durable.Stream: Stream,
    durable.RemoteFunction: RemoteFunction,
    durable.Response: Response,
}

# In the order in which they were opened.
_open: dict[Runtime, None] = {}


def _as(opening: Callable[P, Opening]) -> Callable[[Callable[..., Runtime]], Callable[P, Runtime]]:
    """Gives the function the signature of *opening*."""

    def decorated(fn: Callable[..., Runtime]) -> Callable[P, Runtime]:
        fn.__signature__ = inspect.signature(opening)  # type: ignore[attr-defined]
        return fn

    return decorated


@_as(durable.open)
def open(*args: Any, **kwargs: Any) -> Runtime:
    """Open the store in the folder *path*, as `durable.open` does, for code that does not `await`.

    It is open when this returns, and a context manager that closes it:

        with durable.blocking.open("state", bindings={"COUNTERS": Counter}) as runtime:
            print(runtime.env.COUNTERS.get_by_name("front page").increment())

    Without a block, `runtime.close()` closes it, or the end of the program. The arguments are those
    of `durable.open`, and so is what it raises. An event loop of asyncio runs the objects, in a
    thread of its own; open the store after a fork, in the process that is to use it.
    """
    return open_now(durable.open(*args, **kwargs))


@_as(durable.open_config)
def open_config(*args: Any, **kwargs: Any) -> Runtime:
    """Open the store that a TOML file describes, as `durable.open_config` does, for code that does
    not `await`. See `durable.blocking.open`."""
    return open_now(durable.open_config(*args, **kwargs))


def open_now(opening: Opening, backend: str = "asyncio", **backend_options: Any) -> Runtime:
    thread = LoopThread(opening, backend, backend_options)
    thread.wrappers = WRAPPERS
    runtime = Runtime(thread, thread.open(), _forget)
    _open[runtime] = None
    return runtime


def _forget(runtime: Runtime) -> None:
    _open.pop(runtime, None)


@atexit.register
def _close_all() -> None:
    for runtime in reversed(list(_open)):
        try:
            runtime.close()
        except BaseException:
            log.exception("%r could not be closed at the end of the program", runtime)
