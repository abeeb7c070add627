"""What the objects of one class have done since the runtime was opened: counters that only rise.

They are kept whether or not they are read; so a delivery adds to one of them, and all others are
touched only by what is rare, or asked for.
"""

from __future__ import annotations

from attrs import define


@define(eq=False, slots=True, weakref_slot=False)
class Counters:
    """The counters of one class."""

    class_name: str
    deliveries: int = 0
    # Of the deliveries, those that another object's code has sent.
    subrequests: int = 0
    # Handlers that raised, and deliveries that a reset has ended.
    errors: int = 0
    overloaded: int = 0
    alarms: int = 0
    woken: int = 0
    evicted: int = 0
    broken: int = 0
    # Of SQL, while queries are watched: each counts as it has ended.
    queries: int = 0
    rows_read: int = 0
    rows_written: int = 0
    query_s: float = 0.0
