"""Runs a handler, and tells when it first waits for something.

What arrives at one socket is handled in order up to there: the next message is taken when the
handler of the one before has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from types import coroutine
from typing import Any


def run_first_step(handle: Callable[[], Any], then: Callable[[], None]) -> Any:
    """Run a handler, and call *then* when it first waits for something, or ends."""
    try:
        value = handle()
    except BaseException:
        then()
        raise
    if hasattr(value, "__await__"):
        return _await_with(value, then)
    then()
    return value


async def _await_with(value: Any, then: Callable[[], None]) -> Any:
    return await _first_step(value.__await__(), then)


@coroutine
def _first_step(
    steps: Generator[Any, Any, Any], then: Callable[[], None]
) -> Generator[Any, Any, Any]:
    try:
        trap = steps.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        then()
    return (yield from _resumed(steps, trap))


def _resumed(steps: Generator[Any, Any, Any], trap: Any) -> Generator[Any, Any, Any]:
    """The rest of *steps*, which has yielded *trap*."""
    while True:
        try:
            value = yield trap
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            step = partial(steps.throw, error)
        else:
            step = partial(steps.send, value)
        try:
            trap = step()
        except StopIteration as stop:
            return stop.value
