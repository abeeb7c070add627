"""Orders: what an operator has an object do from outside of the program: store a key, delete one or
all of it, run a method or the alarm, go back. Each is an event of the object like any other, and
has a line in the program's log.

An order and its answer consist of what JSON has, since they come through the control socket.
Values are encoded by the library's codec, whatever codec the program has.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, TypeVar

from durable._border.durable_object import DurableObject, rpc_method
from durable._border.streams import Stream
from durable._engine.codec import MsgpackCodec, codec_of
from durable._model.errors import DurableError, UnknownClass, text_of
from durable._model.ids import ObjectId
from durable._model.log import log
from durable._model.storage_errors import UnstorableValue

from . import interventions
from .class_table import ClassEntry
from .events import event
from .restoring import begin, fork, restore
from .runtime import Runtime
from .stub import Stub, no_such_method

T = TypeVar("T")

Order = Mapping[str, Any]

# The items of a stream that one answer may have.
ITEMS_MAX = 10_000

_is_hex_id = re.compile(r"[0-9a-fA-F]{64}", re.ASCII).fullmatch


def take_orders(runtime: Runtime) -> Callable[[Order, Callable[[Order], None]], None]:
    """For the control server: a function that carries out an order on the loop, and calls back with
    the answer."""
    loop = runtime._services.loop

    def begin(order: Order, on_answer: Callable[[Order], None]) -> None:
        async def run() -> None:
            answer: Order = {"error": "it was cancelled: the program closes the store"}
            try:
                answer = await carry_out(runtime, order)
            finally:
                on_answer(answer)
                loop.ended(loop.own_task())

        loop.spawn(run(), "durable order", Context())

    return begin


async def carry_out(runtime: Runtime, order: Order) -> Order:
    """The answer to *order*: its `result`, or the text of its `error`."""
    try:
        entry = _class(runtime, order["class"])
        codec = codec_of(MsgpackCodec(), entry.cls)
        result = await _do(entry, order, codec.decode)
        try:
            encoded = codec.encode(result)
        except UnstorableValue as error:
            return {"error": f"the call was made, but its result cannot be shown: {error}"}
        return {"result": base64.b64encode(encoded).decode()}
    except DurableError as error:
        return {"error": str(error)}
    except Exception as error:  # most likely of the object's own code
        return {"error": f"{type(error).__name__}: {text_of(error)}"}


async def _do(
    entry: ClassEntry[DurableObject], order: Order, decode: Callable[[bytes], Any]
) -> Any:
    object_id = _id(entry, order["object"])
    key = order.get("key")
    if order["do"] != "look":
        _note(entry, object_id, order)

    def value_of(name: str) -> Any:
        return decode(base64.b64decode(order[name]))

    match order["do"]:
        case "put":
            value = value_of("value")
            await event(entry, object_id, "put", lambda of: of.storage.put(str(key), value))
            return None
        case "delete" if key is not None:
            return await event(entry, object_id, "delete", lambda of: of.storage.delete(str(key)))
        case "delete":
            await entry.channel_of(object_id).delete_all()
            return None
        case "call":
            args, kwargs = value_of("arguments")
            return await _call(entry, object_id, order["method"], args, kwargs, order.get("once"))
        case "restore":
            return await restore(entry, object_id, value_of("to"))
        case "fork":
            fork_id = entry.ids.from_name(order["name"])
            return await fork(entry, object_id, value_of("to"), fork_id)
        case "begin":
            return await begin(entry, entry.ids.from_name(order["name"]), value_of("as"))
        case "alarm":
            return await interventions.run_alarm(entry, object_id, order.get("timer"))
        case "evict":
            return await interventions.evict(entry, object_id)
        case "abort":
            return interventions.abort(entry, object_id)
        case "look":
            return interventions.look(entry, object_id)
    raise DurableError(f"there is no order {order['do']!r}")


def _note(entry: ClassEntry[DurableObject], object_id: ObjectId, order: Order) -> None:
    parts = (order[name] for name in ("key", "method", "timer", "name") if name in order)
    what = [order["do"], *map(repr, parts)]
    name = object_id.name or str(object_id)
    log.note("an operator's order to %s(%r): %s", entry.cls.__name__, name, " ".join(what))


async def _call(
    entry: ClassEntry[DurableObject],
    object_id: ObjectId,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    once: str | None,
) -> Any:
    stub = Stub(entry, object_id)
    if rpc_method(entry.cls, name) is None:
        raise no_such_method(entry.cls, name, object_id)
    if once is not None:
        return await stub.call(getattr(entry.cls, name), *args, once=once, **kwargs)
    answer = getattr(stub, name)(*args, **kwargs)
    if not isinstance(answer, Stream):
        return await answer
    items: list[Any] = []
    async for item in answer:
        if len(items) == ITEMS_MAX:
            await answer.aclose()
            raise DurableError(f"{name}() has more than {ITEMS_MAX:,} items")
        items.append(item)
    return items


def _class(runtime: Runtime, name: str) -> ClassEntry[DurableObject]:
    """The class called *name*, or `SCRIPT:NAME`."""
    entries = list(runtime._classes)
    named = [entry for entry in entries if _label(entry) == name] or [
        entry for entry in entries if entry.record.name == name
    ]
    if len(named) == 1:
        return named[0]
    known = ", ".join(map(_label, named or entries)) or "none"
    what = "there are several classes" if named else "there is no class"
    raise UnknownClass(f"{what} {name!r} in the program that has the store; known are: {known}")


def _label(entry: ClassEntry[DurableObject]) -> str:
    record = entry.record
    return record.name if record.script is None else f"{record.script}:{record.name}"


def _id(entry: ClassEntry[DurableObject], name_or_id: str) -> ObjectId:
    if _is_hex_id(name_or_id):
        return entry.ids.from_string(name_or_id)
    return entry.ids.from_name(name_or_id)
