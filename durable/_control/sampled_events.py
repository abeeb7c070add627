"""The sample of events that has not been sent yet, as one message now and then."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import attrs
from attrs import define, field

from durable._model.clock import Clock
from durable._model.observer import Event

# Beyond this the oldest make room: a slow reader sees the newest.
WAITING_MAX: Final = 2_000


def as_json(event: Event, time_s: float) -> dict[str, Any]:
    """*event* as it is sent."""
    return {
        "event": type(event).__name__,
        "time": round(time_s, 6),
        **attrs.asdict(event, recurse=False),
    }


@define(eq=False)
class SampledEvents:
    """Filled on the loop's thread, emptied on any."""

    _clock: Clock
    _waiting: deque[tuple[float, Event]] = field(
        factory=lambda: deque(maxlen=WAITING_MAX), init=False
    )
    _missed: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)  # of those missed

    def observe(self, event: Event) -> None:
        if len(self._waiting) == WAITING_MAX:
            self._missed += 1
        self._waiting.append((self._clock.now(), event))

    def miss(self, count: int) -> None:
        """So many deliveries were not in the sample."""
        self._missed += count

    def take(self) -> dict[str, Any] | None:
        """What has come since the last time; None if nothing has."""
        events = []
        for _ in range(len(self._waiting)):
            time_s, event = self._waiting.popleft()
            events.append(as_json(event, time_s))
        total = self._missed
        missed, self._taken = total - self._taken, total
        if not events and not missed:
            return None
        return {"event": "Sample", "events": events, "missed": missed}
