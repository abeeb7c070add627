"""A feed sends to a client from the loop's thread, and never waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from anyio import to_thread
from attrs import define, field

from durable import operate
from durable._control import server
from durable._control.feed import SEND_S_MAX, Feed
from durable._model.errors import RuntimeClosed

from .conftest import Watched


@define(eq=False)
class Timer:
    """The loop of the test: one call to come."""

    delay_s: float | None = None
    callback: Callable[[], None] = field(default=lambda: None)

    def later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        self.delay_s, self.callback = delay_s, callback
        return self

    def fire(self) -> None:
        self.delay_s, callback = None, self.callback
        callback()

    def cancel(self) -> None:
        self.delay_s = None


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        yield ours, theirs


def test_a_message_is_made_each_period(ends: tuple[socket.socket, socket.socket]) -> None:
    """The first at once; none after the end."""
    timer, numbers = Timer(), iter(range(10))
    feed = Feed(ends[0], timer.later, 0.5, lambda: b"%d\n" % next(numbers))
    feed.begin()
    assert (ends[1].recv(10), timer.delay_s) == (b"0\n", 0.5)
    timer.fire()
    assert ends[1].recv(10) == b"1\n"
    feed.end()
    assert timer.delay_s is None


def test_a_message_is_made_once_it_is_prepared(ends: tuple[socket.socket, socket.socket]) -> None:
    """In steps, between which the loop serves others."""
    timer, steps = Timer(), [False, True, True]
    feed = Feed(ends[0], timer.later, 0.5, lambda: b"made\n", steps.pop)
    feed.begin()
    delays = []
    while steps:
        delays.append(timer.delay_s)
        timer.fire()
    assert delays == [0, 0]
    assert ends[1].recv(10) == b"made\n"


def test_a_slow_client_gets_whole_messages_later(ends: tuple[socket.socket, socket.socket]) -> None:
    """The next one is made when it has taken the one before."""
    timer, made = Timer(), []

    def make() -> bytes:
        made.append(len(made))
        return b"%d" % made[-1] * 1_000_000 + b"\n"

    feed = Feed(ends[0], timer.later, 0.5, make)
    feed.begin()
    timer.fire()
    assert made == [0]

    got = b""
    while got.count(b"\n") < 2:
        ends[0].setblocking(False)
        got += ends[1].recv(1 << 20)
        timer.fire()
    assert got.split(b"\n")[:2] == [b"0" * 1_000_000, b"1" * 1_000_000]


def test_a_client_that_takes_nothing_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """After half a minute."""
    timer = Timer()
    feed = Feed(ends[0], timer.later, 0.5, lambda: b"x" * 10_000_000)
    feed.begin()
    periods = 0
    while timer.delay_s is not None:
        timer.fire()
        periods += 1
    assert feed.over.is_set()
    assert periods * 0.5 == pytest.approx(SEND_S_MAX, abs=1)


def test_a_client_that_has_gone_ends_the_feed(ends: tuple[socket.socket, socket.socket]) -> None:
    """And nothing is made for it any more."""
    timer = Timer()
    feed = Feed(ends[0], timer.later, 0.5, lambda: b"made\n")
    feed.begin()
    ends[1].close()
    timer.fire()
    assert (feed.over.is_set(), timer.delay_s) == (True, None)


def test_a_closed_runtime_ends_the_feed(ends: tuple[socket.socket, socket.socket]) -> None:
    """There is nothing to report of it."""

    def make() -> bytes:
        raise RuntimeClosed

    timer = Timer()
    feed = Feed(ends[0], timer.later, 0.5, make)
    feed.begin()
    assert (feed.over.is_set(), timer.delay_s) == (True, None)


@pytest.mark.backends("asyncio", "trio")
async def test_a_loop_that_is_stuck_is_reported(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thread, since the loop cannot; reports go on when it does."""
    monkeypatch.setattr(server, "BEAT_S", 0.01)
    monkeypatch.setattr(server, "LOOP_S_MAX", 0.1)
    was_reported = threading.Event()

    def read(reports: Any) -> bool:
        for report in reports:
            if report.get("stuck"):
                was_reported.set()
                return "statistics" in next(found for found in reports if not found.get("stuck"))
        return False

    async with watched.open(observer=None, operate=True):
        reports = await to_thread.run_sync(operate.tops, watched.folder)
        first = await to_thread.run_sync(next, reports)
        assert first["pid"]
        reading = threading.Thread(target=lambda: results.append(read(reports)))
        results: list[bool] = []
        reading.start()
        assert was_reported.wait(30)  # on the loop's thread: it is stuck
        await to_thread.run_sync(reading.join, 30)
        reports.close()
    assert results == [True]
