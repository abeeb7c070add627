"""Calls that refuse code of a broken object, and do not let it go on in circles."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from .ending import Stopped

F = TypeVar("F", bound=Callable[..., Any])


def refusing(call: F) -> F:
    """A method whose answer is awaited, of what has a `_gate`: where it raises Stopped again and
    again, the answer does in its place (`Ending.refuse`)."""

    @wraps(call)
    def careful(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return call(self, *args, **options)
        except Stopped as stopped:
            return self._gate.refuse(stopped)

    return cast("F", careful)
