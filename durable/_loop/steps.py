"""A coroutine that is run step by step, with something done around each step.

Rule: to the code that awaits it, it looks like the coroutine itself. It passes on what the
coroutine yields, what is sent and what is thrown into it, and shows the coroutine as `cr_await` to
code that follows the chain of waits (`sleeping`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class Steps:
    """Awaits *coro*; a subclass defines what is done around each step."""

    __slots__ = ("cr_await",)

    def __init__(self, coro: Any) -> None:
        self.cr_await = coro

    def step(self, resume: Callable[..., Any], *args: Any) -> Any:
        """Run one step, by `resume(*args)`, and return what the coroutine yields."""
        return resume(*args)

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self.step(self.cr_await.send, None)

    def send(self, value: Any) -> Any:
        return self.step(self.cr_await.send, value)

    def throw(self, *error: Any) -> Any:
        return self.step(self.cr_await.throw, *error)

    def close(self) -> None:
        self.cr_await.close()
