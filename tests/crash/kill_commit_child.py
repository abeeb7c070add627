"""The process that is killed: commits numbered batches, and says which were acknowledged.

Each batch writes its number to several keys of one object, so that half of one would be seen.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from durable._engine.batch import Alarm, Batch, Callbacks
from durable._engine.committer import Committer
from durable._engine.engine import Engine
from durable._lmdb.journal import journaled, segments
from tests.engine.kit import Clock, batch_of, open_store, place_of

OBJECTS = 5
KEYS = ("a", "b", "k" * 460, "k" * 1_000)


class Killer:
    """Dies at a named point of the group that was chosen."""

    def __init__(self, point: str, group: int) -> None:
        self._point = point
        self._groups_left = group

    def before_commit(self, group: Sequence[Batch]) -> None:
        self._groups_left -= 1
        self._die_at("before commit")

    def after_commit(self, group: Sequence[Batch]) -> None:
        self._die_at("after commit")

    def _die_at(self, point: str) -> None:
        if point == self._point and self._groups_left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, point: str, seed: int, has_journal: bool) -> None:
    chance = random.Random(seed)
    file = open_store(folder)
    environment: Engine = file
    if has_journal:
        # So it changes its segments now and then, and the file follows as often.
        segments.SEGMENT_SIZE = 256 << 10
        journaled.APPLY_S_MAX = 0.005
        environment = journaled.Journaled(file, Clock())
    places = [place_of(environment, f"n{n}") for n in range(OBJECTS)]
    counts = [_count_of(environment, place.keyspace) for place in places]
    calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
    committer = Committer(environment, calls.put, faults=Killer(point, chance.randint(1, 40)))
    committer.start()
    print("ready", flush=True)
    while True:
        n = chance.randrange(OBJECTS)
        counts[n] += 1
        number = counts[n]
        value = b"\x91" + number.to_bytes(8, "big") + bytes(chance.randrange(2_000))
        batch = batch_of(
            environment,
            places[n],
            dict.fromkeys(KEYS, value),
            # A clear needs that all before it is durable, as the write buffer sees to.
            clears=not committer.waiting and chance.random() < 0.1,
            alarm=Alarm(number, number),
        )
        # One write is one line, whoever dies behind it.
        batch.origin = Callbacks(partial(os.write, 1, b"%d %d\n" % (n, number)), print)
        committer.submit(batch)
        while committer.waiting > 20 or not calls.empty():
            calls.get()()


def _count_of(environment: Engine, number: int) -> int:
    value = environment.in_line.get(number, "a") if number else None
    return int.from_bytes(value[1:9], "big") if value is not None else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "journal")
