"""Cron triggers: when they are due, and the tasks that run them."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from durable import Clock, MissingExtra

log: logging.Logger = logging.getLogger("durable")

Run = Callable[[str, int], Awaitable[None]]


class Schedule:
    """A cron expression of Cloudflare's: five fields, in UTC; days of the week are 1 to 7 from
    Sunday on, or three letters.

    Raises ValueError for an invalid expression, and MissingExtra without the library that parses
    it.
    """

    def __init__(self, cron: str) -> None:
        try:
            library: Any = importlib.import_module("cronsim")
        except ImportError:
            raise MissingExtra("crons need cronsim", "cron") from None
        fields = cron.split()
        if len(fields) != 5:
            raise ValueError(f"a cron trigger has five fields, not {cron!r}")
        self._cron = " ".join([*fields[:4], _days(fields[4])])
        self._library = library
        try:
            self.after(datetime(2030, 1, 1, tzinfo=UTC))
        except library.CronSimError as error:
            raise ValueError(f"{cron!r} is not a valid cron trigger: {error}") from error

    def after(self, at: datetime) -> datetime:
        """The next time that is later than *at*."""
        found: datetime = next(self._library.CronSim(self._cron, at))
        return found


def _days(field: str) -> str:
    """The days of the week counted from 0, as usual; Cloudflare counts them from 1."""
    # Not what follows a slash or a hash, which is not a day.
    return re.sub(r"(?<![/#\d])[1-7](?!\d)", lambda day: str(int(day[0]) - 1), field)


async def keep(cron: str, schedule: Schedule, clock: Clock, run: Run) -> None:
    """Run it whenever it is due; never ends by itself."""
    due = schedule.after(datetime.fromtimestamp(clock.now(), UTC))
    while True:
        left = due.timestamp() - clock.now()
        if left > 0:
            # In parts, since the wall clock may be set meanwhile.
            await clock.sleep(min(left, 30.0))
            continue
        try:
            await run(cron, int(due.timestamp() * 1000))
        except Exception:
            log.exception("the cron trigger %r has failed", cron)
        # Times that came due while it ran are skipped.
        due = schedule.after(max(due, datetime.fromtimestamp(clock.now(), UTC)))
