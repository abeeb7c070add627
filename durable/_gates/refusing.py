"""Calls that refuse code of a broken object, and do not let it go on in circles."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from .ending import Stopped

F = TypeVar("F", bound=Callable[..., Any])


def refusing(call: F) -> F:
    """Wraps a method of an object with a `_gate`, whose answer is awaited: instead of raising
    Stopped again and again it returns an answer that does (`Ending.refuse`)."""

    @wraps(call)
    def careful(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return call(self, *args, **options)
        except Stopped as stopped:
            return self._gate.refuse(stopped)

    return cast("F", careful)
