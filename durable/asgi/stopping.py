"""Open streams end when the server is asked to stop.

A server that stops waits for the responses that are under way, and ends the application's lifespan
only after them: a stream of server-sent events would keep it for ever. Where the server shows that
it is stopping, that is checked a few times a second while streams are open.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from durable import Runtime
from durable._loop.timers import Timer

LOOKED_AT_S = 0.25


class Ending(Protocol):
    """A cancel scope around the sending of a stream."""

    def cancel(self) -> None: ...


def is_stopping() -> bool:
    """Whether the server that runs this process is stopping, as far as it shows that.

    Uvicorn does not notify the application; but its signal handler is a method of the server, whose
    state has it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        server = getattr(signal.getsignal(number), "__self__", None)
        if getattr(server, "should_exit", False) is True:
            return True
    return False


@define(eq=False)
class OpenStreams:
    """The responses of one application that are being streamed.

    A stream of events, to which a browser reconnects, ends at once. Other streams go on for
    `Limits.shutdown_s_max`, and are cut off then.
    """

    # Each with whether it is a stream of events.
    _endings: dict[Ending, bool] = field(factory=dict, init=False)
    _timer: Timer | None = field(default=None, init=False)

    def add(self, ending: Ending, runtime: Runtime, *, is_of_events: bool) -> None:
        """Add a scope, which is cancelled when its stream has to end."""
        self._endings[ending] = is_of_events
        if self._timer is None:
            self._look_later(runtime)

    def remove(self, ending: Ending) -> None:
        """The stream of the scope has ended."""
        self._endings.pop(ending, None)
        if not self._endings and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self, runtime: Runtime) -> None:
        def look() -> None:
            if is_stopping():
                self._stop(runtime)
            else:
                self._look_later(runtime)

        self._timer = runtime._services.timers.call_later(LOOKED_AT_S, look)

    def _stop(self, runtime: Runtime) -> None:
        self._end(lambda is_of_events: is_of_events)
        limit_s = runtime._services.limits.shutdown_s_max
        self._timer = runtime._services.timers.call_later(limit_s, self._end_all)

    def _end_all(self) -> None:
        self._timer = None
        self._end(lambda _: True)

    def _end(self, is_meant: Callable[[bool], bool]) -> None:
        for ending, is_of_events in list(self._endings.items()):
            if is_meant(is_of_events):
                ending.cancel()
