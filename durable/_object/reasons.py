"""Why an object was reset, or would not take a call."""

from __future__ import annotations

from typing import Any

from durable._model.errors import (
    DurableError,
    InternalError,
    ObjectReset,
    arguments_of,
    fill,
    text_of,
)

_OVERLOADED = "Durable Object is overloaded. "
TOO_MANY = _OVERLOADED + "Too many requests queued."
TOO_MUCH = _OVERLOADED + "Too much data queued."
TOO_LONG = _OVERLOADED + "Requests queued for too long."
COMMIT_TOO_LONG = (
    "Durable Object storage operation exceeded timeout which caused object to be reset."
)


def reset_by(error: BaseException) -> DurableError:
    """The reason of a reset that *error*, raised by the object's own code, has caused.

    It has the text and, where that can be, the type of the error: an `except` for either finds it.
    Where the type cannot be made anew, as that of an ExceptionGroup or of a frozen attrs class, it
    is an ObjectReset. The error is its cause in any case.
    """
    try:
        reason = _like(error)
        # Each caller gets a copy, and its text is sent and logged: check now whether that works.
        is_alike = str(reason.copied()) == (str(error) or str(reason))
    except Exception:
        is_alike = False
    return reason if is_alike else ObjectReset.because_of(error)


def reset_kind(kind: type[Exception]) -> type[Exception]:
    """The class of a reset that an error of *kind* has caused."""
    return type(kind.__name__, (ObjectReset, kind), {"__module__": __name__})


def kind_of_reset(error: BaseException) -> type[Exception] | None:
    """What *error* is a reset by, if `reset_kind` made its class."""
    kind = type(error)
    return kind.__bases__[1] if kind.__module__ == __name__ and len(kind.__bases__) == 2 else None


def _like(error: BaseException) -> DurableError:
    if isinstance(error, DurableError) and error.reset:
        return error
    # A coroutine cannot raise what ends an iteration.
    if not isinstance(error, Exception) or isinstance(error, StopIteration | StopAsyncIteration):
        return ObjectReset.because_of(error)
    kind: Any = reset_kind(type(error))
    reason: DurableError = kind.__new__(kind)
    fill(reason, arguments_of(error) or (f"{type(error).__name__} in the code of an object",))
    reason.__dict__.update(getattr(error, "__dict__", {}))
    reason.reset = True
    reason.__cause__ = error
    return reason


def fault(error: BaseException) -> InternalError:
    """The reason of a reset after a step of the library itself has failed."""
    reason = InternalError(
        f"a step of the runtime failed, and the object was reset: {type(error).__name__}: "
        f"{text_of(error)}",
        reset=True,
    )
    reason.__cause__ = error
    return reason
