"""The interface of an observer of the activations of one runtime."""

from __future__ import annotations

from typing import Any, Protocol

from durable._model.errors import DurableError
from durable._storage.watched_queries import EndedQuery

from .invocation import Invocation
from .live import LiveObject


class Hooks(Protocol):
    """Called with what happens to live objects. None of its methods raises or waits.

    `Services.hooks` is None while nothing observes: what a call pays for it is this one comparison.
    """

    def watch(self, activation: LiveObject) -> None:
        """*activation* lives, and has to be observed."""

    def came(self, activation: LiveObject, invocation: Invocation[Any]) -> None:
        """*invocation* is for *activation*, and has no place in line yet."""

    def refused(self, activation: LiveObject, invocation: Invocation[Any]) -> None:
        """*invocation* was not let in, and has its answer."""

    def ended(
        self, activation: LiveObject, invocation: Invocation[Any], error: BaseException | None
    ) -> None:
        """*invocation* has its answer, which is *error* if that is not None."""

    def woken(self, activation: LiveObject, duration_s: float) -> None:
        """The constructor has run, and took so long."""

    def broke(
        self, activation: LiveObject, reason: DurableError, invocations: list[Invocation[Any]]
    ) -> None:
        """*activation* was reset; *invocations* were under way, and end with *reason*."""

    def queried(self, activation: LiveObject, query: EndedQuery) -> None:
        """A query of SQL of *activation* has ended."""

    def evicted(self, activation: LiveObject) -> None:
        """*activation* has left the memory."""
