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

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

_OURS = {module.__name__: module for module in (errors, storage_errors)}
_FLAGS = ("retryable", "overloaded", "reset")


def to_failure(error: BaseException, encode: Encode, causes_max: int = CAUSES_MAX) -> list[Any]:
    """*error* as a list for a frame: module and name of the class, arguments or None, attributes,
    text, the flags and the object's id of a DurableError, notes, cause, whether it is the reset
    that such an error has caused, and the members of a group."""
    of_reset = kind_of_reset(error)
    cls = type(error) if of_reset is None else of_reset
    is_durable = isinstance(error, DurableError)
    cause = error.__cause__
    return [
        _full_name(cls.__module__),
        cls.__qualname__,
        _encoded(_arguments(error), encode),
        {
            name: encoded
            for name, value in vars(error).items()
            if name != "__notes__" and (encoded := _encoded(value, encode)) is not None
        },
        _sendable(text_of(error)),
        [bool(getattr(error, flag)) for flag in _FLAGS] if is_durable else None,
        error.object_id if isinstance(error, DurableError) else None,
        [*_notes(error), *_traceback(error)],
        None if cause is None or not causes_max else to_failure(cause, encode, causes_max - 1),
        of_reset is not None,
        _parts(error, encode, causes_max),
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


def _parts(error: BaseException, encode: Encode, causes_max: int) -> list[Any] | None:
    """The first errors of a group. They count as causes: a group may be deep."""
    if not isinstance(error, BaseExceptionGroup) or not causes_max:
        return None
    return [to_failure(part, encode, causes_max - 1) for part in error.exceptions[:PARTS_MAX]]


def _encoded(value: Any, encode: Encode) -> bytes | None:
    try:
        return encode(value)
    except Exception:  # it is not a value, or its own code fails when it is looked at
        return None


def _notes(error: BaseException) -> list[str]:
    return [_sendable(str(note)) for note in getattr(error, "__notes__", ())]


def _sendable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


def _traceback(error: BaseException) -> list[str]:
    if error.__traceback__ is None:
        return []
    frames = "".join(traceback.format_tb(error.__traceback__))[-TRACEBACK_SIZE_MAX:]
    return [_sendable(f"Raised in process {os.getpid()}:\n{frames.rstrip()}")]
