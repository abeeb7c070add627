"""Errors on their way between Python and JavaScript."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from durable import DurableError

from .javascript import JsException, JsRangeError, JsTypeError


class NotHere(JsException, NotImplementedError):
    """A part of Cloudflare's runtime that does not exist here."""


def raised_there(error: Exception) -> BaseException:
    """The error for the caller of another object or Worker in which *error* was raised: its text
    and its traceback, as Python's exceptions are sent in Cloudflare's runtime, but not its class.
    """
    if isinstance(error, JsException):
        return error
    if isinstance(error, DurableError):
        return of_runtime(error)
    described = "".join(traceback.format_exception(error))
    return JsException(f"PythonError: {described}", name="Error", remote=True)


def of_runtime(error: Exception) -> JsException:
    """An error of the library as JavaScript has it."""
    kinds = ((TypeError, JsTypeError), (AttributeError, JsTypeError), (ValueError, JsRangeError))
    cls = next((js for python, js in kinds if isinstance(error, python)), JsException)
    flags: dict[str, Any] = {}
    if isinstance(error, DurableError):
        named = {
            "retryable": error.retryable,
            "overloaded": error.overloaded,
            "durableObjectReset": error.reset,
        }
        flags = {name: True for name, is_set in named.items() if is_set}
    return cls(str(error), **flags)


@contextmanager
def errors_of_javascript() -> Iterator[None]:
    """Errors of the library become errors of JavaScript, which programs may catch as such."""
    try:
        yield
    except JsException:
        raise
    except (DurableError, TypeError, ValueError) as error:
        raise of_runtime(error) from error
