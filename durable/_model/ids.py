"""Object ids: 32 bytes, half of them the object and half the proof of its class.

Derivation as in Cloudflare's workerd: key = SHA-256(unique key of the class); base = the first 16
bytes of HMAC(key, name), or 16 random ones; id = base + the first 16 bytes of HMAC(key, base).
"""

from __future__ import annotations

import hashlib
import os
import re

from attrs import define, field, frozen

from .errors import InvalidId

BASE_SIZE = 16
ID_SIZE = 32
BLOCK_SIZE = 64  # of SHA-256
NAME_SIZE_MAX = 1_024  # bytes of UTF-8; a longer name still names its object, but is not kept

_HEX_ID = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


@frozen(eq=False, slots=True, weakref_slot=False)
class ObjectId:
    """The id of an object. `str(id)` is 64 lower-case hex digits; equal ids name the same object.

    Made by a `Namespace`; `name` is the name it was made from, or None.
    """

    raw: bytes = field(repr=False)
    name: str | None = None

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<ObjectId {self.raw.hex()}{name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectId) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


@define(eq=False)
class IdFactory:
    """Makes and checks the ids of one class."""

    unique_key: str
    # The two hashes of an HMAC, fed with the key, which is half of the work; copied for each id.
    # Not an object of the module hmac, whose own part of the work takes longer than the hashes.
    _inner: hashlib._Hash = field(init=False, repr=False)
    _outer: hashlib._Hash = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        key = hashlib.sha256(self.unique_key.encode()).digest().ljust(BLOCK_SIZE, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def from_name(self, name: str) -> ObjectId:
        if not isinstance(name, str):
            raise TypeError(f"an object's name must be a str, not {type(name).__name__}")
        try:
            encoded = name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"an object's name must be valid Unicode: {error}") from None
        return ObjectId(self.with_proof(self._mac(encoded)), name)

    def new_unique(self) -> ObjectId:
        return ObjectId(self.with_proof(os.urandom(BASE_SIZE)))

    def from_string(self, text: str) -> ObjectId:
        if not isinstance(text, str):
            raise TypeError(f"an id must be given as a str, not {type(text).__name__}")
        if not _HEX_ID.fullmatch(text):
            raise InvalidId("Invalid Durable Object ID: must be 64 hex digits")
        return self.from_raw(bytes.fromhex(text))

    def from_raw(self, raw: bytes) -> ObjectId:
        if raw != self.with_proof(raw[:BASE_SIZE]):
            raise InvalidId(
                "Durable Object ID is not valid for this namespace. It belongs to another class, "
                "or was not made by a namespace at all"
            )
        return ObjectId(raw)

    def from_base(self, base: bytes, name: str | None = None) -> ObjectId:
        """The id of an object by its base, as the store has it."""
        return ObjectId(self.with_proof(base), name)

    def owns(self, object_id: ObjectId) -> bool:
        return object_id.raw == self.with_proof(object_id.raw[:BASE_SIZE])

    def with_proof(self, base: bytes) -> bytes:
        """The bytes of the id with this first half."""
        return base + self._mac(base)

    def _mac(self, message: bytes) -> bytes:
        """The first half of HMAC(key, message)."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()[:BASE_SIZE]


def name_to_keep(name: str | None) -> str | None:
    """The name as it is remembered inside the object: dropped when longer than 1,024 bytes."""
    return name if name is not None and len(name.encode()) <= NAME_SIZE_MAX else None
