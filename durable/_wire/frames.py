"""Frames: the messages of two processes, one after the other, over one connection.

A frame is four bytes, its length, and an array in MessagePack: the number of its kind, then its
fields. Values of authors are in it as bytes, in the codec's format, so that a value which cannot be
decoded does not spoil its frame.

Rule: the numbers and the fields are the protocol. A later version adds kinds, and adds fields at
the end; a receiver ignores the kinds and the fields that it does not know.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final

import ormsgpack

VERSION: Final = 1
"""The version of the protocol that this code speaks."""
VERSION_MIN: Final = 1
"""The oldest version that it understands."""

# The room that a frame has beside the message in it.
FRAME_OVERHEAD: Final = 65_536
# For a connection that has not greeted yet.
FIRST_FRAME_SIZE_MAX: Final = 65_536

_LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    """The kinds of frames, with their fields.

    A *call* is a number that the caller gives; a *port* a number that it gives to one incarnation
    of an object; a *thing* the number of what was passed by reference, given by its owner.
    """

    HELLO = 0  # version, oldest version understood, what else the process says of itself
    BEAT = 1
    REFUSED = 2  # why
    OPEN = 3  # port, number of the class, id, name or None
    SHUT = 4  # port
    CALL = (
        5  # call, port, whether code of an object calls, method, arguments or None, key of `once=`
    )
    # call, port, whether code of an object calls, request, bytes of its body that wait in memory
    FETCH = 6
    STREAM = 7  # call, port, whether code of an object calls, method, arguments or None
    DELETE = 8  # call, port, whether code of an object calls
    INVOKE = 9  # call, thing, whether code of an object calls, arguments
    ASK = 10  # call, name of the question, value
    ANSWER = 11  # call, value
    FAIL = 12  # call, failure
    MOVED = 13  # call
    ABORT = 14  # call: no code waits for its response any more
    DROP = 15  # thing, how often it had come
    # Streams, by the call that made one or, below zero, by the thing.
    WANT = 16  # stream, how many more items
    ITEM = 17  # stream, value
    END = 18  # stream, failure or None
    LEAVE = 19  # stream
    LEFT = 20  # stream, failure or None
    # Signals and web sockets, by the thing.
    ABORTED = 21  # thing
    MESSAGE = 22  # thing, whether its owner says it, text or bytes
    CLOSE = 23  # thing, whether its owner says it, code, reason, was clean, failure, is lost
    TAKEN = 24  # thing, whether its owner says it, how many bytes were read
    # Deadlocks.
    WHO_WAITS = 25  # call, the way up to here
    NOTICE = 26  # name of the notice, value
    RING = 27  # the ring, and the place in it up to which all are notified
    # Sockets whose object moves to a third process.
    LET_GO = 28  # thing, process that will adopt it: send nothing more about it here
    LET_GONE = 29  # thing: nothing more will come about it
    ADOPT = 30  # process and thing that it was, thing that it is now


class BadFrame(Exception):
    """What arrived is not a frame of this protocol."""


def pack(kind: int, *fields: Any) -> bytes:
    """The bytes of a frame, with its length before them."""
    body = _packb((_NUMBERS.get(kind, kind), *fields))
    return _length_of(len(body)) + body


# Looking up an enum's value takes as long as all the rest of a small frame.
_NUMBERS: dict[int, int] = {kind: kind.value for kind in Kind}
_packb = ormsgpack.packb
_length_of = _LENGTH.pack


class FrameReader:
    """Cuts the bytes that arrive into frames."""

    __slots__ = ("_rest", "size_max")

    def __init__(self, size_max: int = FIRST_FRAME_SIZE_MAX) -> None:
        # The limit of one frame.
        self.size_max = size_max
        # The incomplete frame at the end.
        self._rest = bytearray()

    def feed(self, received: bytes) -> list[list[Any]]:
        """The frames that are complete now. Raises BadFrame for anything else."""
        rest = self._rest
        if rest:
            rest += received
            if len(rest) < 4 or len(rest) < 4 + self._length(rest, 0):
                return []
            received = bytes(rest)
            rest.clear()
        frames = []
        start, size = 0, len(received)
        while size - start >= 4:
            end = start + 4 + self._length(received, start)
            if end > size:
                break
            frames.append(_unpacked(received[start + 4 : end]))
            start = end
        if start < size:
            rest += received[start:] if start else received
        return frames

    def _length(self, received: bytes | bytearray, start: int) -> int:
        (length,) = _LENGTH.unpack_from(received, start)
        if length > self.size_max:
            raise BadFrame(
                f"a frame of {length:,} bytes is announced, and {self.size_max:,} are allowed"
            )
        return int(length)


def _unpacked(body: bytes) -> list[Any]:
    try:
        frame = ormsgpack.unpackb(body)
    except ValueError as error:
        raise BadFrame(f"{len(body):,} bytes are not valid MessagePack: {error}") from None
    if type(frame) is not list or not frame or type(frame[0]) is not int:
        raise BadFrame(f"a {type(frame).__name__} where a frame was expected")
    return frame
