"""The log of refused requests: the first one of a period at once, the others as a number."""

from __future__ import annotations

import logging

from attrs import define, field

from durable import Runtime

log: logging.Logger = logging.getLogger("durable")

SUMMED_UP_S = 10.0


@define(eq=False)
class Refusals:
    """The requests that were refused because an object is overloaded.

    A server that is overloaded has no time to write a line for each.
    """

    # Refused since the last line was written, and the latest of them.
    _count: int = field(default=0, init=False)
    _latest: str = field(default="", init=False)
    _is_summing_up: bool = field(default=False, init=False)

    def add(self, what: str, error: Exception, runtime: Runtime | None) -> None:
        """The request *what* was refused because of *error*."""
        if not self._is_summing_up:
            log.warning("%s was refused: %s", what, error)
            if runtime is not None and runtime._services.loop.is_here():
                self._is_summing_up = True
                self._sum_up_later(runtime)
        else:
            self._count += 1
            self._latest = f"{what}: {error}"

    def _sum_up_later(self, runtime: Runtime) -> None:
        def sum_up() -> None:
            self._is_summing_up = self._count > 0
            if self._count:
                self.log()
                self._sum_up_later(runtime)

        runtime._services.timers.call_later(SUMMED_UP_S, sum_up)

    def log(self) -> None:
        """Log what was not logged yet."""
        if self._count:
            log.warning(
                "%s more requests were refused in the last %g s; the latest was %s",
                f"{self._count:,}",
                SUMMED_UP_S,
                self._latest,
            )
            self._count = 0
