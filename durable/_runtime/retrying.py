"""`durable.retry`: a call that failed in a way that may pass is made again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable._border.durable_object import DurableObject
from durable._model.clock import Clock
from durable._model.errors import DurableError

from .stub import Stub

T = TypeVar("T", bound=DurableObject)
R = TypeVar("R")

# A pause is longer by up to this part, at random, so that many failed calls do not return at once.
SPREAD = 0.25
# Beyond this many doublings the pause stays the same.
DOUBLED_MAX = 64


async def retry(
    fn: Callable[[Stub[T]], Awaitable[R]],
    stub: Stub[T],
    *,
    tries_max: int = 5,
    pause_s: float = 0.1,
    pause_s_max: float = 10.0,
    on_reset: bool = False,
) -> R:
    """`await fn(stub)`, again with a fresh stub after a failure that may be temporary.

        count = await durable.retry(lambda stub: stub.increment(), counters.get_by_name("a"))

    A failure is retried if it is a DurableError that is `retryable` and not `overloaded`, up to
    *tries_max* times in all, after pauses of *pause_s*, twice that, and so on up to *pause_s_max*,
    each longer by up to a quarter at random, by the runtime's clock. With *on_reset* an error with
    `reset` is retried too: the object, or the call itself, was cut off. A failed call may have been
    carried out, so let *fn* do what may be done twice, or call with `once=`. Raises the error of
    the last try.
    """
    if not isinstance(stub, Stub):
        raise TypeError(f"retry() takes a stub to give to the function, not {stub!r}")
    if isinstance(tries_max, bool) or not isinstance(tries_max, int) or tries_max < 1:
        raise ValueError(f"tries_max must be an int from 1 on, not {tries_max!r}")
    if not (pause_s >= 0 and pause_s_max >= 0):
        raise ValueError(f"pauses must be seconds from 0 on, not {pause_s!r} and {pause_s_max!r}")
    for tried in range(1, tries_max):
        try:
            return await fn(stub)
        except DurableError as error:
            if error.overloaded or not (error.retryable or (on_reset and error.reset)):
                raise
        pause = min(pause_s * 2.0 ** min(tried - 1, DOUBLED_MAX), pause_s_max)
        await _sleep(stub._entry.directory.services.clock, pause * (1 + random.random() * SPREAD))
        stub = Stub(stub._entry, stub.id)
    return await fn(stub)


async def _sleep(clock: Clock, seconds: float) -> None:
    until = clock.steady() + seconds
    while (left := until - clock.steady()) > 0:
        await clock.sleep(left)
