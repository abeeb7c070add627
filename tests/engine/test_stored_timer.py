"""Timers as side records."""

from __future__ import annotations

import pytest

from durable._engine.side_records import SIDE_KEY_SIZE_MAX
from durable._engine.stored_timer import (
    PAST_TIMERS,
    TIMERS,
    Cron,
    Every,
    StoredTimer,
    read_timer,
    write_timer,
)
from durable._engine.view import Malformed


@pytest.mark.parametrize("name", ["", "a", "té\0a", "\U0010ffff" * 100])
@pytest.mark.parametrize("schedule", [None, Every(1), Cron("0 3 * * *", "Europe/Berlin")])
def test_a_timer_comes_back_as_it_was(name: str, schedule: Every | Cron | None) -> None:
    timer = StoredTimer(name, 1, 2, b"\x00payload", schedule, 3, 4)

    assert read_timer(timer.key, write_timer(timer)) == timer
    assert TIMERS <= timer.key < PAST_TIMERS
    assert len(timer.key) <= SIDE_KEY_SIZE_MAX


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        (TIMERS + b"a", b""),
        (TIMERS + b"a", b"\xc1"),
        (TIMERS + b"a", b"\x90"),
        (TIMERS + b"\xff", write_timer(StoredTimer("a", 1, 1, b""))),
        (b"\x04once a", write_timer(StoredTimer("a", 1, 1, b""))),
        (TIMERS + b"a", write_timer(StoredTimer("a", -1, 1, b""))),
        (TIMERS + b"a", write_timer(StoredTimer("a", 1, 1, b"", Every(0)))),
    ],
)
def test_what_is_no_timer_is_told(key: bytes, raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_timer(key, raw)
