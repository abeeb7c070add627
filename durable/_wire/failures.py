"""Exceptions on their way to another process: sent as values, and made anew there. No pickle.

An exception arrives as its own class if that class is imported there already and its arguments are
values; else as `RemoteError`. It is made without its `__init__`, as a copy is, so no code of an
author's runs because of what arrives, and nothing is imported. The traceback from the process where
it was raised comes as a note.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from durable._model import errors, storage_errors
from durable._model.errors import (
    DurableError,
    ObjectReset,
    RemoteError,
    arguments_of,
    fill,
    text_of,
)
from durable._object.reasons import kind_of_reset, reset_kind

# How long a chain of causes is sent.
CAUSES_MAX = 3
PARTS_MAX = 32
TRACEBACK_SIZE_MAX = 16_384
# Bytes of one failure: a frame beyond its limit would end the connection, with all that goes over
# it. What does not fit is left out; without its arguments an exception arrives as `RemoteError`.
SIZE_MAX = 1_048_576

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

_OURS = {module.__name__: module for module in (errors, storage_errors)}
_FLAGS = ("retryable", "overloaded", "reset")


def to_failure(error: BaseException, encode: Encode) -> list[Any]:
    """*error* as a list for a frame: module and name of the class, arguments or None, attributes,
    text, the flags and the object's id of a DurableError, notes, cause, whether it is the reset
    that such an error has caused, and the members of a group."""
    try:
        return _failure(error, _Room(encode, SIZE_MAX), CAUSES_MAX)
    except Exception:  # it cannot be looked at, such as one whose notes are no list
        cls = type(error).__qualname__
        return ["builtins", cls, None, {}, "", None, None, [], None, False, None]


class _Room:
    """What one failure may still take."""

    def __init__(self, encode: Encode, size: int) -> None:
        self._encode = encode
        self._left = size

    def encoded(self, value: Any) -> bytes | None:
        try:
            encoded = self._encode(value)
        except Exception:  # it is not a value, or its own code fails when it is looked at
            return None
        if len(encoded) > self._left:
            return None
        self._left -= len(encoded)
        return encoded

    def text(self, text: str) -> str:
        sent = text[: self._left]
        if not sent.isascii():
            sent = sent.encode(errors="replace")[: self._left].decode(errors="ignore")
        self._left -= len(sent) if sent.isascii() else len(sent.encode())
        return sent


def _failure(error: BaseException, room: _Room, causes_max: int) -> list[Any]:
    of_reset = kind_of_reset(error)
    cls = type(error) if of_reset is None else of_reset
    is_durable = isinstance(error, DurableError)
    cause = error.__cause__
    return [
        _full_name(cls.__module__),
        cls.__qualname__,
        room.encoded(_arguments(error)),
        {
            name: encoded
            for name, value in vars(error).items()
            if name != "__notes__" and (encoded := room.encoded(value)) is not None
        },
        room.text(text_of(error)),
        [bool(getattr(error, flag)) for flag in _FLAGS] if is_durable else None,
        error.object_id if isinstance(error, DurableError) else None,
        [room.text(note) for note in (*_notes(error), *_traceback(error))],
        None if cause is None or not causes_max else _failure(cause, room, causes_max - 1),
        of_reset is not None,
        _parts(error, room, causes_max),
    ]


def from_failure(failure: Any, decode: Decode) -> Exception:
    """The exception to raise here. Raises ValueError if *failure* is not one."""
    module, name, args, attributes, text, flags, object_id, notes, cause, *more = failure
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a failure without a class")
    cls = _known_class(module, name)
    if more[0]:
        cls = ObjectReset if cls is None else reset_kind(cls)
    parts = [from_failure(part, decode) for part in more[1] or ()]
    error = _made(cls, args, attributes, parts, decode)
    if error is None:
        error = RemoteError(f"{module}.{name}" if module != "builtins" else name, str(text))
        for flag, value in zip(_FLAGS, flags or (), strict=False):
            setattr(error, flag, bool(value))
        error.object_id = object_id if isinstance(object_id, str) else None
    for note in notes:
        error.add_note(str(note))
    if cause is not None:
        error.__cause__ = from_failure(cause, decode)
    return error


def _made(
    cls: type[Exception] | None, args: Any, attributes: Any, parts: list[Exception], decode: Decode
) -> Exception | None:
    """The exception as its own class; None if that is not possible."""
    if cls is None or args is None:
        return None
    try:
        base = next(kind for kind in cls.__mro__ if kind.__module__ == "builtins")
        arguments = (*decode(args), parts) if parts else tuple(decode(args))
        # Made by the built-in base class, so that a `__new__` of an author does not run.
        error: Exception = base.__new__(cls, *arguments)
        fill(error, arguments)
        vars(error).update({str(key): decode(value) for key, value in attributes.items()})
        text_of(error)
    except Exception:
        return None
    return error


def _known_class(module: str, name: str) -> type[Exception] | None:
    """The exception class of that name, if it is imported already."""
    found: Any = _OURS.get(module) or sys.modules.get(module)
    if found is None and module == _full_name("__main__"):
        found = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return None


def _full_name(module: str) -> str:
    """The name of a module; for a program started by `python -m`, the one that others import it
    by."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None) if module == "__main__" else None
    return module if spec is None else str(spec.name)


def _arguments(error: BaseException) -> list[Any]:
    return [error.message] if isinstance(error, BaseExceptionGroup) else [*arguments_of(error)]


def _parts(error: BaseException, room: _Room, causes_max: int) -> list[Any] | None:
    """The first errors of a group. They count as causes: a group may be deep."""
    if not isinstance(error, BaseExceptionGroup) or not causes_max:
        return None
    return [_failure(part, room, causes_max - 1) for part in error.exceptions[:PARTS_MAX]]


def _notes(error: BaseException) -> list[str]:
    return [str(note) for note in getattr(error, "__notes__", ())]


def _traceback(error: BaseException) -> list[str]:
    if error.__traceback__ is None:
        return []
    frames = "".join(traceback.format_tb(error.__traceback__))[-TRACEBACK_SIZE_MAX:]
    return [f"Raised in process {os.getpid()}:\n{frames.rstrip()}"]
