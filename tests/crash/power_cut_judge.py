"""The judge: makes what a power failure may have left, opens it, and says what is wrong.

A process of its own, since LMDB trusts its file and a bad one may kill whoever opens it. Writes one
line for each image, before and after it has looked.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio

import durable
from durable import testing
from durable._lmdb.check import check
from durable._lmdb.folder import Found, inspect

from .power_cut_disk import HOWS, Disk
from .power_cut_program import BINDINGS, LEDGERS, RUNS, spoil
from .power_cut_record import Event, Kind, read_record

STORE = Path("above", "further", "store")  # below the folder that was there
CREATION_ROUNDS = 2  # of each cut before the store was open
FAULTS_MAX = 3  # then it has seen enough


async def main(log: Path, top: int, images: Path, seed: int, rounds: int, dropped: str) -> None:
    chance = random.Random(seed)
    events = _drop(read_record(log), dropped, top)
    cuts = [chance.randint(0, len(events)) for _ in range(rounds)]
    cuts += list(range(_creation(events))) * CREATION_ROUNDS
    disk, played, faults = Disk(top), 0, 0
    for n, cut in enumerate(sorted(cuts)):
        disk.play(events[played:cut])
        played = cut
        how = chance.choice(HOWS)
        print(json.dumps([cut, how]), flush=True)
        image = images / f"{n}"
        disk.write_image(image, how, chance)
        fault = await judge(image, disk.notes)
        print(json.dumps(fault), flush=True)
        if fault is None:
            shutil.rmtree(image)
        elif (faults := faults + 1) == FAULTS_MAX:
            return


def _drop(events: list[Event], dropped: str, top: int) -> list[Event]:
    """What is left where the disk, or the program, does not do all of it."""
    folders = {top, *(e.offset for e in events if e.kind is Kind.CREATE and e.flag)}
    kept: dict[str, Callable[[Event], bool]] = {
        "nothing": lambda event: True,
        "data syncs": lambda e: e.kind is not Kind.SYNC_ENDED or e.file in folders,
        "folder syncs": lambda e: e.kind is not Kind.SYNC_ENDED or e.file not in folders,
        "synced writes": lambda e: e.kind is not Kind.WRITE_SYNCED,
    }
    return list(filter(kept[dropped], events))


def _creation(events: list[Event]) -> int:
    return next(n for n, event in enumerate(events) if event.name == "open")


async def judge(image: Path, notes: list[str]) -> str | None:
    """What is wrong with *image*, where so much has been noted; None if nothing is."""
    told: Counter[str] = Counter()
    copied: dict[int, Counter[str]] = {}
    for note in notes:
        what, _, number = note.partition(" ")
        if what == "copying":
            copied[int(number)] = Counter(told)
        elif number:
            told[what] = max(told[what], int(number)) if what in told else int(number)
    try:
        await _judge_store(image / STORE, told)
        for n in range(RUNS):
            copy = (image / STORE).with_name(f"copy {n}")
            if copy.exists():
                await _judge_store(copy, copied[n])
            else:
                assert told.get("copied", -1) < n, f"the copy {n} is not there"
    except AssertionError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


async def _judge_store(store: Path, told: Counter[str]) -> None:
    if inspect(str(store)) is Found.STORE:
        _check(store, "before it is opened", told)
    clock = testing.VirtualClock(start_s=1.0)  # nothing rings
    async with durable.open(store, bindings=BINDINGS, clock=clock) as runtime:
        for n in range(LEDGERS):
            ledger = runtime.env.LEDGER.get_by_name(f"ledger {n}")
            number, wrong = await ledger.look()
            assert not wrong, f"{n}: {', '.join(wrong)}"
            assert number >= told[f"ledger-{n}"], f"{n} has forgotten: {number} of {told}"
        bell = runtime.env.BELL.get_by_name("bell")
        wound, rung, wrong = await bell.look()
        assert not wrong, f"bell: {', '.join(wrong)}"
        assert wound >= told["wound"], f"the bell has forgotten: {wound} of {told}"
        assert rung >= told["rung"], f"the bell has forgotten that it rang: {rung} of {told}"
        await ledger.add(30_000)  # it can be written to
    _check(store, "when it was written to", told)


def _check(store: Path, when: str, told: Counter[str]) -> None:
    try:
        problems = check(store)
    except FileNotFoundError:
        assert not any(told.values()), f"there is no store, and it knew {told}"
        return
    assert not problems, f"the check, {when}: {problems[0]}"


if __name__ == "__main__":
    spoil("sync")  # the judge's own writes need not outlive it
    os.fsync = lambda fd: None
    _, log_, top_, images_, seed_, rounds_, dropped_ = sys.argv
    anyio.run(main, Path(log_), int(top_), Path(images_), int(seed_), int(rounds_), dropped_)
