"""Timers as JSON, as `durable show --json` prints them."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

from durable._storage.timers import Timer

from .found import Unreadable
from .json_values import to_json

_MICROSECOND = timedelta(microseconds=1)


def timer_to_json(timer: Timer) -> dict[str, Any]:
    """A timer that was found in a store."""
    described: dict[str, Any] = {
        "name": timer.name,
        "due": timer.due.isoformat(),
        "scheduled": timer.scheduled_time.isoformat(),
        "retry_count": timer.retry_count,
    }
    if isinstance(timer.schedule, timedelta):
        described["every"] = {"microseconds": timer.schedule // _MICROSECOND}
    elif timer.schedule is not None:
        described["every"] = {"cron": timer.schedule, "time_zone": timer.time_zone}
    payload = timer.payload
    if isinstance(payload, Unreadable):
        described["encoded"] = base64.b64encode(payload.encoded).decode()
    else:
        described["payload"] = to_json(payload)
    return described
