"""Authentication: two processes prove to each other that they know the store's secret, without
sending it.

The side that accepts sends a nonce, a number that it has never sent before, and its name. The side
that connects answers with a nonce of its own, its name, and a *proof*: HMAC-SHA256, under the
secret, of its role, both nonces and both names. Only then does the accepting side send its own
proof: to a stranger it proves nothing. So nothing that was sent once proves anything again
(replay), nothing that one side sends proves anything for the other (reflection), and a proof is
good for these two processes alone.

Rule: nothing here sends or waits. Each side is a generator of steps: what to send, and how many
bytes to read before it goes on. Its return value is the name of the other process.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Generator
from enum import Enum
from typing import Final

from attrs import frozen

from durable._model.errors import DurableError

MAGIC: Final = b"durable1"
WATCHES: Final = "watches "
"""Before the name of one that connects to watch a process, and is no process of the store."""

NONCE_SIZE: Final = 32
PROOF_SIZE: Final = 32
NAME_SIZE_MAX: Final = 255
# No more than this is read from a stranger, or sent to one.
BYTES_MAX: Final = len(MAGIC) + NONCE_SIZE + 1 + NAME_SIZE_MAX + PROOF_SIZE
# Sent in place of the second proof.
_REFUSED: Final = bytes(PROOF_SIZE)


class NotAuthentic(Exception):
    """The other side is not a process of the store, or not the one that was expected."""


class Refused(DurableError):
    """The two processes do not speak with each other: they have different stores, their versions
    are too far apart, or one of them does not know the other's secret."""


@frozen
class Step:
    """Send this, then go on once so many bytes have come."""

    send: bytes
    read: int


Steps = Generator[Step, bytes, str]


class _Role(Enum):
    CONNECTS = b"connects"
    LISTENS = b"listens"


@frozen
class _Exchange:
    """What both sides know once both have sent their parts."""

    secret: bytes
    listener_nonce: bytes
    listener: bytes
    connector_nonce: bytes
    connector: bytes

    def proof(self, role: _Role) -> bytes:
        parts = (
            role.value,
            self.listener_nonce,
            self.listener,
            self.connector_nonce,
            self.connector,
        )
        # Each part with its length before it, so that no two exchanges are the same bytes.
        said = MAGIC + b"".join(bytes((len(part),)) + part for part in parts)
        return hmac.digest(self.secret, said, "sha256")

    def is_proof(self, role: _Role, proof: bytes) -> bool:
        return hmac.compare_digest(self.proof(role), proof)


def listening(secret: bytes, me: str) -> Steps:
    """The side that accepts. Raises NotAuthentic, and Refused if the other side does not know the
    secret, once that was sent a refusal."""
    nonce, own = os.urandom(NONCE_SIZE), me.encode()
    head = yield Step(MAGIC + nonce + _sized(own), len(MAGIC) + NONCE_SIZE + 1)
    their_nonce = _nonce_of(head, nonce)
    said = yield Step(b"", head[-1] + PROOF_SIZE)
    name, proof = said[:-PROOF_SIZE], said[-PROOF_SIZE:]
    exchange = _Exchange(secret, nonce, own, their_nonce, name)
    if not exchange.is_proof(_Role.CONNECTS, proof):
        yield Step(_REFUSED, 0)
        raise Refused("it does not know the secret of this store's processes (Peers.secret)")
    yield Step(exchange.proof(_Role.LISTENS), 0)
    return _text(name)


def connecting(secret: bytes, me: str, looked_for: str) -> Steps:
    """The side that connects, to the process *looked_for*. Raises NotAuthentic if another process
    listens there, and Refused if one of the two does not know the other's secret."""
    head = yield Step(b"", len(MAGIC) + NONCE_SIZE + 1)
    their_nonce = _nonce_of(head, b"")
    name = yield Step(b"", head[-1])
    if _text(name) != looked_for:
        raise NotAuthentic("another process listens there by now")
    nonce, own = os.urandom(NONCE_SIZE), me.encode()
    exchange = _Exchange(secret, their_nonce, name, nonce, own)
    proof = exchange.proof(_Role.CONNECTS)
    answer = yield Step(MAGIC + nonce + _sized(own) + proof, PROOF_SIZE)
    if hmac.compare_digest(answer, _REFUSED):
        raise Refused("it has another secret than this process (Peers.secret)")
    if not exchange.is_proof(_Role.LISTENS, answer):
        raise Refused("it does not know the secret of this store's processes (Peers.secret)")
    return looked_for


def _nonce_of(head: bytes, own: bytes) -> bytes:
    magic, nonce = head[: len(MAGIC)], head[len(MAGIC) : -1]
    if magic != MAGIC:
        raise NotAuthentic("it does not follow the protocol of this store's processes")
    if nonce == own:
        raise NotAuthentic("it sends back what was sent to it")
    return nonce


def _sized(name: bytes) -> bytes:
    assert len(name) <= NAME_SIZE_MAX
    return bytes((len(name),)) + name


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise NotAuthentic("its name is not valid text") from None
