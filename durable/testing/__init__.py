"""The test kit: open a store whose clock and disk a test controls, and look inside.

async with durable.testing.open(path, clock=VirtualClock(), faults=faults) as runtime:
    stub = runtime.namespace(Counter).get_by_name("a")
    with faults.hold_commits():
        ...
"""

from .clock import VirtualClock
from .faults import Faults
from .objects import (
    abort_all,
    evict,
    evict_all,
    is_live,
    list_object_ids,
    reset,
    run_alarm,
    run_in_object,
    run_timer,
)
from .opening import open
from .settling import settle

__all__ = [
    "Faults",
    "VirtualClock",
    "abort_all",
    "evict",
    "evict_all",
    "is_live",
    "list_object_ids",
    "open",
    "reset",
    "run_alarm",
    "run_in_object",
    "run_timer",
    "settle",
]
