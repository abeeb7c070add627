"""What goes from one end of a web socket to the other, and its limits."""

from __future__ import annotations

from attrs import frozen

# The memory of a message beside its text, so that a million empty ones count too.
MESSAGE_OVERHEAD = 64
MESSAGE_SIZE_MAX = 33_554_432
REASON_SIZE_MAX = 123

NO_CODE = 1005
DROPPED = 1006
TOO_SLOW = 1013
DROPPED_TEXT = "WebSocket disconnected without sending Close frame."
TOO_SLOW_TEXT = "too many messages are waiting to be read"


@frozen
class Close:
    """The last thing that arrives at an end: a close frame, or the loss of the connection."""

    code: int
    reason: str
    was_clean: bool
    error: Exception | None = None


Message = str | bytes
Frame = Message | Close


def as_bytes(message: object) -> bytes:
    if isinstance(message, bytearray | memoryview):
        return bytes(message)
    raise TypeError(f"a WebSocket message must be str or bytes, not {type(message).__name__}")


def size_of(message: str | bytes) -> int:
    """The size of *message* for the limits; a text counts in UTF-8."""
    if isinstance(message, bytes) or message.isascii():
        size = len(message)
    else:
        size = utf8_size("the message", message, "send bytes, or mend the text")
    if size > MESSAGE_SIZE_MAX:
        raise ValueError(
            f"a WebSocket message cannot be larger than {MESSAGE_SIZE_MAX} bytes; this one has "
            f"{size}. Send it in parts"
        )
    return size + MESSAGE_OVERHEAD


def utf8_size(what: str, text: str, remedy: str = "mend the text") -> int:
    """How many bytes *text* has in UTF-8; ValueError if it cannot be encoded."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} has a lone surrogate at {error.start}, which UTF-8 cannot express; {remedy}"
        ) from None


def close_frame(code: int | None, reason: str | None) -> Close:
    if code is None:
        if reason is not None:
            raise TypeError(
                "If you specify a WebSocket close reason, you must also specify a code."
            )
        return Close(NO_CODE, "", True)
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"a WebSocket close code must be an int, not {code!r}")
    if not 1000 <= code <= 4999 or code in {1004, 1005, 1006, 1015}:
        raise ValueError(f"Invalid WebSocket close code: {code}.")
    if not isinstance(reason, str | None):
        raise TypeError(f"a WebSocket close reason must be a str, not {type(reason).__name__}")
    size = utf8_size("the close reason", reason or "")
    if size > REASON_SIZE_MAX:
        raise ValueError(
            f"a WebSocket close reason cannot be larger than {REASON_SIZE_MAX} bytes of UTF-8; "
            f"this one has {size}"
        )
    return Close(code, reason or "", True)
