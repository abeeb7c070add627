"""The timer of an `asyncio.sleep` that will not go on.

Relies on `gc.get_referents` of a coroutine returning its local variables, of which the handle of
the timer is one. Versions: CPython 3.11 to 3.14. Without it the timer runs out in the loop.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from .switch import BORROWS


def cancel_sleep_timer(coro: Any) -> None:
    """Take the timer of *coro* out of asyncio's loop, if it is a sleep.

    The loop would keep it until it is due, and in its contextvars what was sleeping.
    """
    if BORROWS and getattr(coro, "cr_code", None) is asyncio.sleep.__code__:
        for value in gc.get_referents(coro):
            if type(value).__name__ == "TimerHandle":
                value.cancel()
