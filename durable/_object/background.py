"""Work that an object has begun beside its events, by `ctx.wait_until`."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import copy_context
from types import CoroutineType

from durable._gates.delivery import gate_task
from durable._gates.futures import PendingAnswer
from durable._loop.loop import INTERRUPTS
from durable._model.log import log

from .live import LiveObject


def wait_until(activation: LiveObject, awaitable: Awaitable[object]) -> None:
    """Run *awaitable* to its end as a task of the object, which stays in memory meanwhile."""
    activation.gate.check_loop()
    if not hasattr(awaitable, "__await__"):
        raise TypeError(f"wait_until() takes an awaitable, not {type(awaitable).__name__}")

    async def wait() -> object:
        return await awaitable

    # A coroutine goes in as it is: one that the object breaks before can then be closed.
    work = gate_task(awaitable if isinstance(awaitable, CoroutineType) else wait())
    services = activation.services
    activation.pin()
    done: PendingAnswer[None] = PendingAnswer(services.loop)
    services.works[done] = activation.id.raw
    services.loop.spawn(_run(activation, work, done), "wait_until", copy_context())


async def _run(activation: LiveObject, work: Awaitable[object], done: PendingAnswer[None]) -> None:
    services = activation.services
    try:
        await work
    except BaseException as error:  # nothing waits for it, so this is where it ends
        if isinstance(error, INTERRUPTS):
            services.loop.raise_in_program(error)
        if activation.gate.broken is None:
            log.error(
                "wait_until() of %s failed",
                activation.label,
                exc_info=error,
                extra=activation.marks,
            )
    finally:
        activation.unpin()
        del services.works[done]
        done.resolve(None)
        services.loop.ended(services.loop.own_task())
