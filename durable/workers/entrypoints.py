"""The classes that a Worker's author subclasses, and the context of one call of a Worker."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from . import messages
from .env import EnvWrapper
from .js_collections import JsObject
from .sdk_messages import Request
from .spelling import BothCases


class DurableObject:
    """The base of a Worker's classes of objects."""

    ctx: Any
    env: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class WorkerEntrypoint:
    """The base of a Worker's entrypoints: `Default` serves requests and crons; methods of all can
    be called through service bindings."""

    ctx: Any
    env: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class WorkflowEntrypoint(WorkerEntrypoint):
    """The base of workflows, which can be defined here, but not run."""


class ExecutionContext(BothCases):
    """`ctx` of a WorkerEntrypoint: one call of a Worker."""

    def __init__(self, begin: Callable[[Awaitable[object]], None]) -> None:
        self._begin = begin
        self.props: JsObject = JsObject()

    def waitUntil(self, awaitable: Awaitable[object]) -> None:
        """Go on with *awaitable* after the response."""
        self._begin(awaitable)

    def passThroughOnException(self) -> None:
        """Does nothing: there is no origin behind a Worker here."""


def handler(fn: Callable[..., Any]) -> Callable[..., Any]:
    """For handlers of the old style, such as `on_fetch`: the arguments are Python's kinds."""

    @functools.wraps(fn)
    def handle(*args: Any, **options: Any) -> Any:
        given = list(args)
        if given and isinstance(given[0], messages.Request):
            given[0] = Request(given[0])
        if len(given) > 1:
            given[1] = EnvWrapper(given[1])
        return relaxed(fn, *given, **options)

    return handle


def relaxed(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call *fn* with as many of *args* as it takes."""
    signature = inspect.signature(fn)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        by_place = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        args = args[: sum(kind in by_place for kind in kinds)]
    return fn(*args, **options)
