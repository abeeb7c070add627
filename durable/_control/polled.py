"""What each report says of the whole runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from .busiest import QueueLength


@frozen
class Polled:
    """The callables of the runtime behind a report."""

    # Measures the store, if that is due. For the thread of a client; it may wait for a database.
    measure: Callable[[], None]
    # Counts some of the live objects, if that is due; returns whether there are more to count. For
    # the loop's thread, as those below.
    count: Callable[[], bool]
    statistics: Callable[[], Mapping[str, Any]]
    queue_lengths: Callable[[], Mapping[str, QueueLength]]
