"""Events of an object that come from outside of the program, and from no stub."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TypeVar

from durable._border.channel import LocalChannel, reached
from durable._border.durable_object import DurableObject
from durable._gates.futures import Answer
from durable._model.errors import DurableError
from durable._model.ids import ObjectId
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._storage.object_storage import ObjectStorage

from .class_table import ClassEntry
from .interventions import ELSEWHERE

T = TypeVar("T")


async def event(
    entry: ClassEntry[DurableObject],
    object_id: ObjectId,
    label: str,
    do: Callable[[ObjectStorage], Answer[T]],
) -> T:
    """The result of *do* on the object's storage, in an invocation of the object."""
    activation = here(entry, object_id)

    def run() -> Answer[T]:
        return do(reached(invocation).storage)

    invocation: Invocation[T] = Invocation(activation, run, Context(), label, None)
    activation.deliver(invocation)
    return await invocation


def here(entry: ClassEntry[DurableObject], object_id: ObjectId) -> Activation:
    """The activation of the object. Raises DurableError if another process has it."""
    channel = entry.channel_of(object_id)
    if not isinstance(channel, LocalChannel):
        raise DurableError(f"{ELSEWHERE}; ask that one")
    return channel.activation
