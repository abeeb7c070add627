"""The codec: a value as the bytes that are stored, and back.

Rule: what comes back is equal to what was put and of the same type, or else the put raised. The
first byte says how the rest is written, so that the codec can change. Here it is the one by which
MessagePack begins an array of one: the value is its only element, and nothing is cut off to read
it.

MessagePack has fewer types than Python. What it lacks is an extension type (`extension_types.py`).
Two more things need care: ormsgpack writes bytearrays and its own raw types without asking, and
accepts keys other than str only with an option, and then changes some of them. So values are
searched for the former, and take the fast path only if all keys are str; other dicts are written
as lists of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable
from zoneinfo import ZoneInfoNotFoundError

import ormsgpack
from ormsgpack import Ext, packb, unpackb

from durable._model.declared import Declared, Make
from durable._model.errors import DurableError, StoreDamaged
from durable._model.instances import Apart, Content, StoredInstance, shape_of
from durable._model.storage_errors import UnreadableValue, UnstorableValue
from durable._model.values import (
    ATOMS,
    CONTAINERS,
    DEPTH_MAX,
    LEAVES,
    Keep,
    Refusal,
    copy_value,
)

from .checksums import MARK
from .extension_types import (
    ANY_KEYS,
    CONTAINER_READERS,
    EXT_INSTANCE,
    LEAF_READERS,
    OPTIONS,
    OPTIONS_ANY_KEYS,
    LeafReaders,
    extend,
    spelled_out,
)

FORMAT_MSGPACK: Final = 0x91


@runtime_checkable
class Codec(Protocol):
    """Give one as `codec=` to `durable.open` to decide how values are encoded."""

    def encode(self, value: Any, /) -> bytes:
        """Raises UnstorableValue for a value that this codec cannot bring back."""

    def decode(self, encoded: bytes, /) -> Any:
        """Returns a new value. Raises StoreDamaged for what `encode` cannot have written."""


class MsgpackCodec:
    """The codec of the library: MessagePack with extension types.

    With *declared*, instances of the declared classes are stored and made again; without, an
    instance is read as a `StoredInstance`, and only such a one is written.
    """

    __slots__ = ("decode", "encode")

    # Plain functions: a method costs a third of a small value's encoding.
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def __init__(self, declared: Declared | None = None) -> None:
        self.encode = encoder(_take_stored if declared is None else declared.take)
        make: Make = StoredInstance if declared is None else declared.make
        self.decode = decoder(make)


def codec_of(codec: Codec, cls: type) -> Codec:
    """The codec for objects of *cls* when *codec* was given to the runtime."""
    return MsgpackCodec(Declared(cls)) if type(codec) is MsgpackCodec else codec


def encoder(take: Keep) -> Callable[[Any], bytes]:
    """Returns a function that encodes values, and calls *take* for a leaf of another than a plain
    type, to get its parts or an extension type of the caller's."""

    def encode(value: Any, /) -> bytes:
        """The bytes of *value*. Raises UnstorableValue, saying where in the value."""
        kind = type(value)
        if (
            kind in _SCALARS
            # The next line is _is_plain for the dict that most values are, without the call.
            or (kind is dict and _LOOKED_INTO.isdisjoint(map(type, value.values())))
            or (kind in CONTAINERS and _is_plain(value, kind, DEPTH_MAX))
        ):
            try:
                return packb([value], extend, OPTIONS)
            except TypeError:
                pass  # found out below: something not plain, or a dict to be written as pairs
        tree = copy_value(value, take)  # raises if anything in it is not storable
        try:
            return packb([spelled_out(tree)], extend, OPTIONS_ANY_KEYS)
        except TypeError as error:
            raise UnstorableValue(f"the value cannot be encoded: {error}") from error

    return encode


def decoder(make: Make, others: LeafReaders | None = None) -> Callable[[bytes], Any]:
    """Returns a function that decodes values: *make* makes instances by the names of their classes,
    *others* read extension types that no store contains."""
    readers = LEAF_READERS if others is None else {**LEAF_READERS, **others}
    read_ext = _ext_reader(DEPTH_MAX, make, None, readers)

    def decode(encoded: bytes, /) -> Any:
        """The value of *encoded*. Raises StoreDamaged for bytes that `encode` cannot have written,
        UnreadableValue for an instance whose class has changed or is not declared."""
        try:
            if encoded[0] == FORMAT_MSGPACK:
                return unpackb(encoded, ext_hook=read_ext, option=ANY_KEYS)[0]
        except (ValueError, IndexError, RecursionError, OverflowError):
            pass
        raise _why_unreadable(encoded, make, readers)

    return decode


def _take_stored(leaf: Any) -> object | None:
    """Without declared classes: an instance from an export is written as it was."""
    if type(leaf) is StoredInstance:
        if not isinstance(leaf.content, dict):
            return leaf
        return Apart(leaf.content, lambda parts: StoredInstance(leaf.name, parts, leaf.unset))
    cls: type = type(leaf)
    return None if shape_of(cls) is None else Refusal()


_SCALARS = ATOMS | LEAVES
# ormsgpack writes these as they are, though none of them would come back as itself.
_SMUGGLED: frozenset[type] = frozenset({bytearray, memoryview, Ext, ormsgpack.Fragment})
_LOOKED_INTO = CONTAINERS | _SMUGGLED


def _is_plain(value: Any, kind: type, depth: int) -> bool:
    """Whether packb can be trusted with *value*: none of those types in it, and not too deep."""
    if not depth:
        return False
    items = value.values() if kind is dict else value
    # One pass in C, and the only one for most values.
    if _LOOKED_INTO.isdisjoint(map(type, items)):
        return True
    for item in items:
        kind = type(item)
        if kind in _LOOKED_INTO and (kind in _SMUGGLED or not _is_plain(item, kind, depth - 1)):
            return False
    return True


def _ext_reader(
    depth: int, make: Make, causes: list[Exception] | None, readers: LeafReaders
) -> Callable[[int, bytes], Any]:
    """Returns the reader of extension types for unpackb, *depth* levels of which may still follow;
    *make* makes an instance by the name of its class.

    unpackb swallows the exceptions of its reader, so they are recorded in *causes*.
    """

    def read(code: int, payload: bytes) -> Any:
        try:
            read_leaf = readers.get(code)
            if read_leaf is not None:
                return read_leaf(payload)
            read_items = CONTAINER_READERS.get(code)
            if read_items is None and code != EXT_INSTANCE:
                raise ValueError(f"extension type {code} is unknown")
            if not depth:
                raise ValueError(f"it is nested more than {DEPTH_MAX} deep")
            reader = _ext_reader(depth - 1, make, causes, readers)
            items = unpackb(payload, ext_hook=reader, option=ANY_KEYS)
            return make(*_instance_parts(items)) if read_items is None else read_items(items)
        except Exception as error:
            if causes is not None:
                causes.append(error)
            raise

    return read


def _instance_parts(items: Any) -> tuple[str, Content, tuple[str, ...]]:
    name, content, *unset = items
    if not isinstance(name, str) or not isinstance(content, dict | str | list):
        raise ValueError("an instance is malformed")
    return name, content, tuple(unset[0]) if unset else ()


def _why_unreadable(encoded: bytes, make: Make, readers: LeafReaders) -> DurableError:
    causes: list[Exception] = []
    reader = _ext_reader(DEPTH_MAX, make, causes, readers)
    try:
        unpackb(encoded, ext_hook=reader, option=ANY_KEYS)
    except Exception as error:
        causes.append(error)
    if causes and isinstance(causes[0], UnreadableValue):
        return causes[0]
    return StoreDamaged(_why_damaged(encoded, causes))


def _why_damaged(encoded: bytes, causes: list[Exception]) -> str:
    if not encoded:
        return "a stored value is empty, which no value is; run `durable check` on the folder"
    if encoded[:1] == MARK:
        return "a stored value is damaged: its checksum does not match; run `durable check`"
    if encoded[0] != FORMAT_MSGPACK:
        return (
            f"a stored value has the format byte {encoded[0]}, and this version of durable knows "
            f"only {FORMAT_MSGPACK}; it was written by another codec or by a later version"
        )
    if isinstance(causes[0], ZoneInfoNotFoundError):
        return (
            f"a stored value is in a time zone that this machine does not know: {causes[0]}; "
            f"install the tzdata package"
        )
    return (
        f"a stored value of {len(encoded):,} bytes cannot be decoded: {causes[0]}; run `durable "
        f"check` on the folder"
    )


_PLAIN = MsgpackCodec()
encode, decode = _PLAIN.encode, _PLAIN.decode
