"""How evenly do many processes have the objects of a store, and what does it cost when some go?

On paper, made to run: the placement and the leases that decide in a real store, with simulated
processes and a database that answers so many statements at once, each in so long.

    python -m benchmarks.placement --processes 1000 --objects 100000000
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from durable._engine.lease import RENEWALS, Lease, Seen, look_again_s, to_declare_dead
from durable._shards.placement import moved, place

# Of a store with four keys an object, in the database with its indexes.
BYTES_PER_OBJECT = 950


@frozen
class World:
    """What is assumed."""

    processes: int = 1_000
    shards: int = 1_024
    objects: int = 100_000_000
    lease_s: float = 10.0
    # How long the database works at a statement, and at how many at once.
    statement_s: float = 0.001
    statements: int = 8
    seed: int = 1

    def names(self) -> list[str]:
        return [f"process {number}" for number in range(self.processes)]


def balance(world: World) -> dict[str, Any]:
    """The largest share of a process over the mean one, in shards and in objects."""
    chance = random.Random(world.seed)
    mean = world.objects / world.shards
    # The ids of objects are hashes or random: a shard has a number of them that is Poisson's, and
    # so many that it is Gauss's too.
    sizes = [max(0.0, chance.gauss(mean, mean**0.5)) for _ in range(world.shards)]
    began_s = time.perf_counter()
    placed = place(world.shards, world.names())
    placed_s = time.perf_counter() - began_s
    shards: Counter[str] = Counter(placed)
    objects: Counter[str] = Counter()
    for shard, process in enumerate(placed):
        objects[process] += round(sizes[shard])
    return {
        "shards of a process": f"{min(shards.values())} to {max(shards.values())}",
        "largest share of objects over the mean": round(
            max(objects.values()) * world.processes / sum(objects.values()), 3
        ),
        "largest shard over the mean": round(max(sizes) / mean, 4),
        "to place all shards, s": round(placed_s, 3),
        "the database holds, GB": round(world.objects * BYTES_PER_OBJECT / 1e9),
    }


def moves(world: World) -> dict[str, Any]:
    """How many shards move when a process comes or goes, beside those that must."""
    names = world.names()
    before = place(world.shards, names)
    one_less, one_more = names[:-1], [*names, "another"]
    after_loss, after_gain = place(world.shards, one_less), place(world.shards, one_more)
    had = sum(process == names[-1] for process in before)
    gets = sum(process == "another" for process in after_gain)
    return {
        "moves when one goes": f"{len(moved(before, after_loss))}, of which {had} must",
        "moves when one comes": f"{len(moved(before, after_gain))}, of which {gets} must",
    }


def renewals(world: World) -> dict[str, Any]:
    """What the database is asked for while nothing happens."""
    per_s = world.processes * RENEWALS / world.lease_s
    return {
        "renewals a second": round(per_s),
        "of the database's time": f"{per_s * world.statement_s / world.statements:.1%}",
        "rows of processes that they read, a second": round(per_s * world.processes),
    }


def recovery_s(world: World, dying: int) -> float:
    """How long until each shard has an owner again, when so many processes die at one moment, on
    other machines: nobody knows better than that their leases run out."""
    chance = random.Random(world.seed + dying)
    names = world.names()
    dead = set(range(dying))
    placed = place(world.shards, names[dying:])
    # Since each has renewed, when they die at 0.
    every_s = world.lease_s / RENEWALS
    expires = {number: world.lease_s - chance.uniform(0, every_s) for number in dead}
    before = place(world.shards, names)
    wanted = {
        shard: int(before[shard].split()[1])
        for shard in range(world.shards)
        if int(before[shard].split()[1]) in dead
    }
    claimer = {shard: int(placed[shard].split()[1]) for shard in wanted}
    # Each statement is served by the one of the database's workers that is free first.
    free_at = [0.0] * world.statements
    heapq.heapify(free_at)

    def serve(time_s: float) -> float:
        began_s = max(time_s, heapq.heappop(free_at))
        heapq.heappush(free_at, began_s + world.statement_s)
        return began_s + world.statement_s

    lease = Lease(world.lease_s, lambda: 0.0)
    looks = [(chance.uniform(0, every_s), number) for number in range(dying, world.processes)]
    heapq.heapify(looks)
    left = set(wanted)
    done_s = 0.0
    while left:
        time_s, process = heapq.heappop(looks)
        read_s = serve(time_s)
        seen = [Seen(number, until - read_s) for number, until in expires.items()]
        late = set(to_declare_dead(seen, (), process))
        mine = [shard for shard in left if claimer[shard] == process and wanted[shard] in late]
        if mine:
            # Declare them dead, see who is, claim, and read what is claimed with the first call.
            for _ in range(3):
                read_s = serve(read_s)
            left.difference_update(mine)
            done_s = max(done_s, read_s)
        pause_s = look_again_s([each for each in seen if each.left_s > 0], lease, process)
        heapq.heappush(looks, (read_s + max(pause_s, 0.001), process))
    return done_s


def ask(world: World, dying: Sequence[int]) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {
        "processes": world.processes,
        "shards": world.shards,
        "objects": f"{world.objects:,}",
        "lease, s": world.lease_s,
        **balance(world),
        **moves(world),
        **renewals(world),
    }
    for count in dying:
        if count < world.processes:
            found[f"all answer again after {count} died, s"] = round(recovery_s(world, count), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1_000)
    parser.add_argument("--shards", type=int, default=1_024)
    parser.add_argument("--objects", type=int, default=100_000_000)
    parser.add_argument("--lease", type=float, default=10.0)
    asked = parser.parse_args()
    world = World(asked.processes, asked.shards, asked.objects, asked.lease)
    for name, figure in ask(world, (1, 10, 100)).items():
        print(f"{name}: {figure}")
    small = [
        (count, ask(World(count, asked.shards, asked.objects, asked.lease), ()))
        for count in (3, 10, 30, 100, 300)
        if count < asked.processes
    ]
    for count, found in small:
        print(
            f"with {count} processes: shards {found['shards of a process']}, largest share "
            f"{found['largest share of objects over the mean']} of the mean, "
            f"{found['renewals a second']} renewals a second"
        )


if __name__ == "__main__":
    main()
