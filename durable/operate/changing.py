"""Changing objects from outside of their program: store a key, delete one or a whole object, call a
method.

Where a program has the store open, with `operate=True`, it does it, as an event of the object.
Where none has, a key is written to the store as it stands, by this process, which is its owner
meanwhile; a call needs the code of the class.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from durable._control import control_socket
from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from durable._engine.codec import MsgpackCodec
from durable._model.clock import SystemClock
from durable._model.errors import DurableError, StoreInUse
from durable._model.ids import BASE_SIZE, IdFactory, name_to_keep
from durable._model.limits import Limits
from durable._model.storage_errors import ValueTooLarge
from durable._runtime.engines import open_to_write
from durable._runtime.interventions import ELSEWHERE
from durable._runtime.orders import Order, carry_out
from durable._runtime.runtime import Runtime
from durable._runtime.store_files import processes_of
from durable._storage.arguments import check_key

from .found import Found, StoredClass, UnknownObject, Unreadable
from .looking import Store, look
from .watching import NotRunning

_CODEC = MsgpackCodec()
_LIMITS = Limits()
_HEX_ID = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

HOW_TO_REACH = (
    "the program that has it takes no orders: it must have opened the store with "
    "durable.open(..., operate=True), or run with DURABLE_OPERATE=1, as this user"
)


class Refused(DurableError):
    """The object, or the program that has it, has not done what it was told, or has failed."""


Where = str | os.PathLike[str]


def put(store: Where, cls: str, name_or_id: str, key: str, value: Any) -> None:
    """Store *value* under *key* of an object, which is made if it is not there.

    Raises Refused with what the program that has the store says; UnknownClass, InvalidId,
    KeyTooLarge, ValueTooLarge, UnstorableValue, StoreInUse, and what opening a store raises.
    """
    told = tell(store, put_order(cls, name_or_id, key, value))
    if told is None:
        with _Unowned(store, cls, name_or_id) as unowned:
            unowned.put(key, _checked(key, value))
    else:
        result_of(told)


def delete(store: Where, cls: str, name_or_id: str, key: str | None = None) -> bool:
    """Delete *key* of an object, or without a key all of it, its alarm too; returns whether it was
    there. Raises what `put` raises."""
    if key is not None:
        check_key(key, _LIMITS.key_size_max)
    with look(store) as looked:
        known = looked.cls(cls)
        was_there = _find(looked, known.label, name_or_id) is not None
    if not was_there:
        return False
    told = tell(store, delete_order(cls, name_or_id, key))
    if told is None:
        with _Unowned(store, cls, name_or_id) as unowned:
            return unowned.delete(key)
    result = result_of(told)
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

    Raises NotRunning where no program has the store, Refused with what the call raised.
    """
    order = call_order(cls, name_or_id, method, args, kwargs, once=once)
    told = tell(store, order)
    if told is None:
        raise NotRunning(
            f"no program has the store {os.fspath(store)!r} open, and a call needs the code of "
            f"its classes"
        )
    return result_of(told)


def put_order(cls: str, name_or_id: str, key: str, value: Any) -> Order:
    """The order of a `put`, for `obey`."""
    return order_of("put", cls, name_or_id, key=key, value=_text(_checked(key, value)))


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
    return order_of("call", cls, name_or_id, method=method, arguments=_text(arguments), once=once)


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
    """An order to do *what*, with what it needs besides."""
    more = {name: value for name, value in more.items() if value is not None}
    return {"want": "order", "do": what, "class": cls, "object": name_or_id, **more}


def _folders(store: Where) -> list[str]:
    """Where the programs listen that have the store."""
    path = os.fspath(store)
    return [folder for _, folder in processes_of(path)] or [path]


def tell(store: Where, order: Order) -> Order | None:
    """What the program that has the store returns; None if none listens there. Of processes that
    share it each is asked until one has the object."""
    answer: Order | None = None
    for folder in _folders(store):
        told = _told_at(folder, order)
        answer = told or answer
        if told is not None and ELSEWHERE not in str(told.get("error", "")):
            break
    return answer


def _told_at(folder: str, order: Order) -> Order | None:
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
        f"have done what it was told"
    )


def result_of(answer: Order) -> Any:
    """The result in an answer. Raises Refused."""
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return _CODEC.decode(base64.b64decode(answer["result"]))


def _text(encoded: bytes) -> str:
    return base64.b64encode(encoded).decode()


def _checked(key: str, value: Any) -> bytes:
    check_key(key, _LIMITS.key_size_max)
    encoded = _CODEC.encode(value)
    if len(encoded) > _LIMITS.value_size_max:
        raise ValueTooLarge(key, len(encoded), _LIMITS.value_size_max)
    return encoded


def _find(store: Store, cls: str, name_or_id: str) -> Found | None:
    try:
        return store.find(cls, name_or_id)
    except UnknownObject:
        return None


class _Unowned:
    """A store that no program has, and one object of it; this process is the owner meanwhile."""

    def __init__(self, store: Where, cls: str, name_or_id: str) -> None:
        with look(store) as looked:  # what is no store is not to become one
            looked.cls(cls)
        try:
            self._environment = open_to_write(os.fspath(store), SystemClock())
        except StoreInUse as error:
            error.add_note(f"Otherwise {HOW_TO_REACH}.")
            raise
        try:
            self._store = Store(self._environment, _CODEC, is_ours=False)
            self._cls = self._store.cls(cls)
            self._found = _find(self._store, cls, name_or_id)
            self._handle = self._handle_of(self._cls, name_or_id)
        except BaseException:
            self._environment.close()
            raise

    def __enter__(self) -> _Unowned:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._environment):
            self._store.close()

    def put(self, key: str, encoded: bytes) -> None:
        self._check_codec()
        if not self._handle.keyspace:
            self._handle.keyspace = self._environment.next_keyspace()
        self._commit({key: encoded})

    def delete(self, key: str | None) -> bool:
        """Whether it was there."""
        if self._found is None:
            return False
        if key is None:
            self._handle.keyspace = self._environment.next_keyspace()
            self._commit({}, wipe=True)
            while self._environment.has_garbage:
                self._environment.collect_garbage()
            return True
        items = self._store.encoded(self._found, start=key, end=key + "\0")
        if next(items, None) is None:
            return False
        self._commit({key: None})
        return True

    def _handle_of(self, cls: StoredClass, name_or_id: str) -> ObjectHandle:
        found = self._found
        if found is not None:
            base = found.id.raw[:BASE_SIZE]
            return ObjectHandle(cls.number, base, found.number, found.name, None, None)
        ids = IdFactory(cls.unique_key)
        is_id = _HEX_ID.fullmatch(name_or_id)
        id = ids.from_string(name_or_id) if is_id else ids.from_name(name_or_id)
        return ObjectHandle(cls.number, id.raw[:BASE_SIZE], 0, name_to_keep(id.name), None, None)

    def _check_codec(self) -> None:
        """Do not write what the program of the store could not read."""
        first = None if self._found is None else next(self._store.items(self._found), None)
        if first is not None and isinstance(first[1], Unreadable) and not first[1].is_damaged:
            raise DurableError(
                f"the values of the store are not written by the library's codec ({first[1].why}); "
                f"let the program that has this codec do it: open the store with it, and with "
                f"operate=True"
            )

    def _commit(self, puts: dict[str, bytes | None], *, wipe: bool = False) -> None:
        size = sum(len(key) + len(value or b"") for key, value in puts.items())
        alarm = None if wipe else UNCHANGED
        batch = Batch(self._handle, wipe, puts, alarm, Callbacks(_nothing, _nothing), size)
        self._environment.commit([batch])


def _nothing(*_: object) -> None:
    """Each commit is waited for, and so told to none."""
