"""A seeded simulation of a whole runtime, whose history is checked against a model of an object.

    python -m durable.testing.simulation --seed 17

One seed decides everything: what callers request, when they are cancelled, the order of ready
tasks, when the disk commits, fails or loses power, when the clock jumps. So a failure can be
repeated, as often as it takes to understand it.
"""

from __future__ import annotations

import gc
import logging
import random
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from .bookmarks import Bookmarks
from .director import Life, SimulatedClock, check_folder
from .history import History
from .loops import BACKENDS, run

__all__ = ["BACKENDS", "Outcome", "simulate"]

LIVES_MAX = 4
# A folder in memory if there is one: the speed of a disk is not simulated.
IN_MEMORY = Path("/dev/shm")


@frozen
class Outcome:
    """The outcome of one seed."""

    seed: int
    backend: str
    violations: tuple[str, ...]
    lines: tuple[str, ...]  # the history, one event each
    counts: Mapping[str, int]

    @property
    def is_good(self) -> bool:
        return not self.violations


def simulate(seed: int, backend: str = "asyncio") -> Outcome:
    """Run the simulation of one seed. The same seed always makes the same history."""
    chance = random.Random(f"durable {seed}")
    clock = SimulatedClock()
    # Some objects keep a history, and give bookmarks.
    history = History(chance, clock.now, Bookmarks(is_on=seed % 3 == 2))
    # Objects that fail are the point of it; Trio warns of the generators that they leave behind.
    logs = [logging.getLogger(name) for name in ("durable", "trio.async_generator_errors")]
    levels, state = [log.level for log in logs], random.getstate()
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    random.seed(seed)  # of the delays between an alarm's retries
    # The garbage collector runs when the process has made enough garbage, which no seed decides;
    # and the collection of an end of a socket is an event.
    collects = gc.isenabled()
    gc.disable()
    try:
        _live(history, clock, backend, seed)
        history.judge()
    except Exception as error:  # any error that reaches this point came through the library
        history.violations.append("".join(traceback.format_exception(error)))
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        random.setstate(state)
        if collects:
            gc.enable()
    return Outcome(seed, backend, tuple(history.violations), tuple(history.lines), history.counts)


def _live(history: History, clock: SimulatedClock, backend: str, seed: int) -> None:
    memory = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="durable-") as scratch:
        folder = Path(scratch, "life")
        lives = history.chance.randint(1, LIVES_MAX)
        for number in range(lives):
            # Every fourth seed has a journal. Its lives may be without one, in turn.
            has_journal = seed % 4 == 3 and (seed + number) % 5 != 0
            life = Life(history, clock, folder, number == lives - 1, has_journal)
            history.chance.seed(f"durable {seed} {number}")
            folder = run(backend, random.Random(f"order {seed} {number}"), life.run)
            gc.collect(0)  # all that this life has made is young
            check_folder(history, folder)
            if history.violations:
                return
            clock.jump(history.chance.choice([0.0, 5.0, 500.0]))
