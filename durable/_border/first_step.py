"""Runs a handler of a web socket, and calls back when its first step has ended.

Rule: what arrives at one socket is handled in order up to there. The next message is taken when the
handler of the one before has suspended for the first time, or has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from durable._loop.steps import Steps


def run_first_step(handle: Callable[[], Any], then: Callable[[], None]) -> Any:
    """Run a handler, and call *then* when it first suspends, or ends."""
    try:
        value = handle()
    except BaseException:
        then()
        raise
    if hasattr(value, "__await__"):
        return _await(FirstStep(value if type(value) is CoroutineType else _await(value), then))
    then()
    return value


class FirstStep(Steps):
    """A coroutine after whose first step something is called."""

    __slots__ = ("_then",)

    def __init__(self, coro: Any, then: Callable[[], None]) -> None:
        super().__init__(coro)
        self._then: Callable[[], None] | None = then

    def step(self, resume: Callable[..., Any], *args: Any) -> Any:
        then, self._then = self._then, None
        if then is None:
            return resume(*args)
        try:
            return resume(*args)
        finally:
            then()


async def _await(value: Any) -> Any:
    return await value
