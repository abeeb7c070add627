"""Changing objects from outside of their program: store a key, delete one or a whole object, call a
method.

If a program has the store open, with `operate=True`, that program makes the change, as an event of
the object. If none has, this process writes the key to the store, and is its owner meanwhile; a
call needs the code of the class.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from durable._control import control_socket
from durable._engine.codec import MsgpackCodec
from durable._model.errors import DurableError
from durable._model.limits import Limits
from durable._model.storage_errors import ValueTooLarge
from durable._runtime.interventions import ELSEWHERE
from durable._runtime.orders import Order, carry_out
from durable._runtime.runtime import Runtime
from durable._runtime.store_files import processes_of
from durable._storage.arguments import check_key

from .looking import look
from .unowned import Unowned, Where, find_in
from .watching import NotRunning

_CODEC = MsgpackCodec()
_LIMITS = Limits()


class Refused(DurableError):
    """The object, or the program that has it, has not carried out an order, or has failed."""


def put(store: Where, cls: str, name_or_id: str, key: str, value: Any) -> None:
    """Store *value* under *key* of an object, which is made if it does not exist.

    Raises Refused with the answer of the program that has the store; UnknownClass, InvalidId,
    KeyTooLarge, ValueTooLarge, UnstorableValue, StoreInUse, and what opening a store raises.
    """
    reply = send_order(store, put_order(cls, name_or_id, key, value))
    if reply is None:
        with Unowned(store, cls, name_or_id) as unowned:
            unowned.put(key, checked(key, value))
    else:
        result_of(reply)


def delete(store: Where, cls: str, name_or_id: str, key: str | None = None) -> bool:
    """Delete *key* of an object, or without a key all of it, its alarm too; returns whether it
    existed. Raises what `put` raises."""
    if key is not None:
        check_key(key, _LIMITS.key_size_max)
    with look(store) as looked:
        known = looked.cls(cls)
        was_there = find_in(looked, known.label, name_or_id) is not None
    if not was_there:
        return False
    reply = send_order(store, delete_order(cls, name_or_id, key))
    if reply is None:
        with Unowned(store, cls, name_or_id) as unowned:
            return unowned.delete(key)
    result = result_of(reply)
    return True if key is None else bool(result)


def call(
    store: Where,
    cls: str,
    name_or_id: str,
    method: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    once: str | None = None,
) -> Any:
    """Call a method of an object in the program that has the store, and return its result.

    Raises NotRunning if no program has the store, Refused with what the call raised.
    """
    order = call_order(cls, name_or_id, method, args, kwargs, once=once)
    reply = send_order(store, order)
    if reply is None:
        raise NotRunning(
            f"no program has the store {os.fspath(store)!r} open, and a call needs the code of "
            f"its classes"
        )
    return result_of(reply)


def put_order(cls: str, name_or_id: str, key: str, value: Any) -> Order:
    """The order of a `put`, for `obey`."""
    return order_of("put", cls, name_or_id, key=key, value=text_of(checked(key, value)))


def delete_order(cls: str, name_or_id: str, key: str | None) -> Order:
    """The order of a `delete`, for `obey`."""
    return order_of("delete", cls, name_or_id, key=key)


def call_order(
    cls: str,
    name_or_id: str,
    method: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    once: str | None = None,
) -> Order:
    """The order of such a call, for `obey`."""
    arguments = _CODEC.encode([list(args), dict(kwargs or {})])
    return order_of("call", cls, name_or_id, method=method, arguments=text_of(arguments), once=once)


def takes_orders(store: Where) -> bool:
    """Whether a program that takes orders has the store."""
    for folder in _folders(store):
        with suppress(OSError):
            control_socket.connect(folder).close()
            return True
    return False


async def obey(runtime: Runtime, order: Order) -> Any:
    """Carry out *order* in this process, whose store *runtime* is; returns the result."""
    return result_of(await carry_out(runtime, order))


def order_of(what: str, cls: str, name_or_id: str, **more: Any) -> Order:
    """An order of the kind *what*, with its parameters."""
    more = {name: value for name, value in more.items() if value is not None}
    return {"want": "order", "do": what, "class": cls, "object": name_or_id, **more}


def _folders(store: Where) -> list[str]:
    """The folders of the control sockets of the programs that have the store."""
    path = os.fspath(store)
    return [folder for _, folder in processes_of(path)] or [path]


def send_order(store: Where, order: Order) -> Order | None:
    """Send an order to the program that has the store; returns its answer, None if none listens. Of
    processes that share a store each is asked until one has the object."""
    answer: Order | None = None
    for folder in _folders(store):
        reply = _reply_at(folder, order)
        answer = reply or answer
        if reply is not None and ELSEWHERE not in str(reply.get("error", "")):
            break
    return answer


def _reply_at(folder: str, order: Order) -> Order | None:
    try:
        connection = control_socket.connect(folder)
    except OSError:
        return None
    try:
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            connection.sendall(json.dumps(order).encode() + b"\n")
            for line in lines:
                if line.strip():
                    answer: Order = json.loads(line)
                    return answer
    except ConnectionError:
        pass
    raise Refused(
        f"the program that has the store {folder!r} ended the connection without an answer; it may "
        f"have carried out the order"
    )


def result_of(answer: Order) -> Any:
    """The result in an answer. Raises Refused."""
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return _CODEC.decode(base64.b64decode(answer["result"]))


def text_of(encoded: bytes) -> str:
    return base64.b64encode(encoded).decode()


def checked(key: str, value: Any) -> bytes:
    check_key(key, _LIMITS.key_size_max)
    encoded = _CODEC.encode(value)
    if len(encoded) > _LIMITS.value_size_max:
        raise ValueTooLarge(key, len(encoded), _LIMITS.value_size_max)
    return encoded
