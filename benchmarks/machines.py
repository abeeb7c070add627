"""What do faults of processes, networks and databases cost a store that several machines have?

Processes with a store on PostgreSQL, which has a synchronous standby, speak over TCP. One calls
counters that the others have; each of the others reads counters by itself. Meanwhile processes are
killed, stopped for longer than their lease and cut off; the database is restarted; and its standby
takes its place, at most a second after it was killed, or while it still runs and is ended 1.5
leases later. What was confirmed is compared with what is there. All of it is on this machine, where
a process that was killed is known to be dead at once; on another machine its lease has to run out,
as with SIGSTOP.

    python -m benchmarks.machines --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
from attrs import define, field

import durable
from tests import postgres
from tests.cables import Cable
from tests.standby import Pair

SECRET = "the secret of the processes of this run"
PROCESSES = 2  # beside the one that calls
COUNTERS = 12
READS_EVERY_S = 0.02
FAULTS = (
    *("kill -9", "SIGSTOP", "network cut"),
    *("database cut", "database restarted", "database killed", "two primaries"),
)


class Counter(durable.DurableObject):
    """Counts, and says nothing before it is stored."""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def value(self) -> int:
        value: int = await self.ctx.storage.get("value", 0)
        return value


BINDINGS = {"COUNTERS": Counter}


# A process that has objects


async def serve(url: str, listen: str, advertise: str, lease_s: float) -> None:
    """Have a share of the objects, and read some: each is told of with when it was asked for."""
    peers = durable.Peers(listen=listen, advertise=advertise, secret=SECRET)
    limits = durable.Limits(lease_s=lease_s)
    chance = random.Random(os.getpid())
    async with durable.open(url, peers=peers, bindings=BINDINGS, limits=limits) as runtime:
        print(json.dumps(["ready"]), flush=True)
        while True:
            name = str(chance.randrange(COUNTERS))
            began_s = time.monotonic()
            try:
                with anyio.fail_after(5):
                    value = await runtime.env.COUNTERS.get_by_name(name).value()
            except (durable.DurableError, TimeoutError):
                pass
            else:
                print(json.dumps([name, value, began_s]), flush=True)
            await anyio.sleep(READS_EVERY_S)


def free_address() -> str:
    """Where a process may listen."""
    return f"127.0.0.1:{postgres.free_port()}"


@define(eq=False)
class Machine:
    """A process that has objects, and the cables to it and from it to the databases."""

    url: str
    lease_s: float
    on_read: Callable[[str, int, float], None]
    process: subprocess.Popen[str] = field(init=False)
    network: Cable = field(init=False)
    databases: list[Cable] = field(init=False)
    _hearing: threading.Thread = field(init=False)
    _is_ready: threading.Event = field(factory=threading.Event)

    def start(self) -> None:
        listen = free_address()
        before, _, addresses_and_name = self.url.partition("@")
        addresses, _, name = addresses_and_name.partition("/")
        self.network = Cable(listen)
        self.databases = [Cable(address) for address in addresses.split(",")]
        url = f"{before}@{','.join(cable.address for cable in self.databases)}/{name}"
        arguments = (url, listen, self.network.address, str(self.lease_s))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.machines", "--serve", *arguments],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self._hearing = threading.Thread(target=self._hear, args=[self.process.stdout])
        self._hearing.start()
        assert self._is_ready.wait(60), "a process did not begin"

    def _hear(self, lines: IO[str]) -> None:
        for line in lines:
            if line.endswith("\n"):
                name, *read = json.loads(line)
                if name == "ready":
                    self._is_ready.set()
                else:
                    self.on_read(name, *read)

    def end(self) -> None:
        self.process.kill()
        self._hearing.join()
        self.process.communicate()
        for cable in (self.network, *self.databases):
            cable.close()


# The one that calls, and knows what was confirmed


@define(eq=False)
class Counted:
    """What is known of one counter."""

    # When each increment was confirmed, and what it said.
    times: list[float] = field(factory=list)
    values: list[int] = field(factory=list)
    # Calls since the last confirmed one of which nobody knows what became of them.
    in_doubt: int = 0
    doubts: int = 0
    longest_s: float = 0.0

    @property
    def confirmed(self) -> int:
        return self.values[-1] if self.values else 0

    def before(self, time_s: float) -> int:
        """What was confirmed by then."""
        place = bisect_left(self.times, time_s)
        return self.values[place - 1] if place else 0


@define(eq=False)
class Run:
    """One run, and its figures."""

    lease_s: float
    counters: dict[str, Counted] = field(
        factory=lambda: {str(n): Counted() for n in range(COUNTERS)}
    )
    lost: int = 0
    twice: int = 0
    stale: int = 0
    reads: int = 0
    failures: dict[str, int] = field(factory=dict)
    outage_by_fault: dict[str, float] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def confirmed(self) -> int:
        return sum(len(counted.values) for counted in self.counters.values())

    def read(self, name: str, value: int, began_s: float) -> None:
        """A process has read a counter, which it began to do at *began_s*."""
        with self._lock:
            self.reads += 1
            self.stale += value < self.counters[name].before(began_s)

    def count(self, name: str, value: int) -> None:
        """An increment was confirmed."""
        with self._lock:
            counted = self.counters[name]
            now_s = time.monotonic()
            if counted.times:
                counted.longest_s = max(counted.longest_s, now_s - counted.times[-1])
            self.lost += value <= counted.confirmed
            self.twice += value > counted.confirmed + counted.in_doubt + 1
            counted.times.append(now_s)
            counted.values.append(value)
            counted.in_doubt = 0

    async def keep_calling(self, runtime: durable.Runtime, name: str) -> None:
        stub = runtime.env.COUNTERS.get_by_name(name)
        while True:
            try:
                value = await stub.increment()
            except durable.DurableError as error:
                counted = self.counters[name]
                counted.in_doubt += 1
                counted.doubts += 1
                kind = type(error).__name__
                self.failures[kind] = self.failures.get(kind, 0) + 1
                stub = runtime.env.COUNTERS.get_by_name(name)
                await anyio.sleep(0.01)
            else:
                self.count(name, value)

    def begin_fault(self) -> None:
        for counted in self.counters.values():
            counted.longest_s = 0.0

    async def end_fault(self, fault: str) -> None:
        """All counters answer again; what the fault has cost is noted."""
        began_s = time.monotonic()
        while any(not each.times or each.times[-1] < began_s for each in self.counters.values()):
            await anyio.sleep(0.02)
        longest_s = max(counted.longest_s for counted in self.counters.values())
        self.outage_by_fault[fault] = max(self.outage_by_fault.get(fault, 0.0), longest_s)


@define(eq=False)
class Faults:
    """What happens to the processes."""

    run: Run
    servers: Pair
    url: str
    # To the process that calls.
    network: Cable
    chance: random.Random
    machines: list[Machine] = field(factory=list)

    def start_one(self) -> None:
        machine = Machine(self.url, self.run.lease_s, self.run.read)
        self.machines.append(machine)
        machine.start()

    def happen(self, fault: str) -> None:
        """Let *fault* happen, and be over. Blocks."""
        machine = self.chance.choice(self.machines)
        lease_s = self.run.lease_s
        if fault == "kill -9":
            machine.end()
            self.machines.remove(machine)
            time.sleep(self.chance.uniform(0, lease_s))
            self.start_one()
        elif fault == "SIGSTOP":
            machine.process.send_signal(signal.SIGSTOP)
            time.sleep(1.5 * lease_s)
            machine.process.send_signal(signal.SIGCONT)
        elif fault == "database restarted":
            self.servers.primary.stop(self.chance.choice([signal.SIGINT, signal.SIGQUIT]))
            time.sleep(self.chance.uniform(0, 1.0))
            self.servers.primary.start()
        elif fault == "database killed":
            self.servers.kill_primary()
            time.sleep(self.chance.uniform(0, 1.0))
            self._begin_anew(self.servers.promote())
        elif fault == "two primaries":
            old = self.servers.promote()
            time.sleep(1.5 * lease_s)
            self._begin_anew(old)
        elif fault == "database cut":
            self._cut(machine.databases, 1.5 * lease_s)
        else:
            # Until each side has given the other one up.
            self._cut([machine.network, self.network], 7.0)

    def _begin_anew(self, old: postgres.Server) -> None:
        """The former primary is ended, and another standby is in its place."""
        old.close()
        self.servers.follow_anew(old.port)

    def _cut(self, cables: Sequence[Cable], seconds: float) -> None:
        for cable in cables:
            cable.is_cut = True
        time.sleep(seconds)
        for cable in cables:
            cable.is_cut = False
            cable.break_()

    def end(self) -> None:
        for machine in self.machines:
            machine.end()
        self.network.close()


async def measure(rounds: int, lease_s: float, faults: Sequence[str], seed: int = 1) -> Run:
    """So many rounds of all *faults*."""
    run = Run(lease_s)
    servers = Pair()
    try:
        url = servers.url(servers.primary.new_store())
        listen = free_address()
        network = Cable(listen)
        happening = Faults(run, servers, url, network, random.Random(seed))
        peers = durable.Peers(listen=listen, advertise=network.address, secret=SECRET)
        limits = durable.Limits(lease_s=lease_s)
        try:
            async with durable.open(url, peers=peers, bindings=BINDINGS, limits=limits) as runtime:
                for _ in range(PROCESSES):
                    await anyio.to_thread.run_sync(happening.start_one)
                async with anyio.create_task_group() as group:
                    for name in run.counters:
                        group.start_soon(run.keep_calling, runtime, name)
                    await run.end_fault("none")
                    for fault in list(faults) * rounds:
                        run.begin_fault()
                        await anyio.to_thread.run_sync(happening.happen, fault)
                        await run.end_fault(fault)
                    group.cancel_scope.cancel()
                for name, counted in run.counters.items():
                    value = await runtime.env.COUNTERS.get_by_name(name).value()
                    run.lost += max(0, counted.confirmed - value)
                    run.twice += max(0, value - counted.confirmed - counted.in_doubt - 1)
        finally:
            await anyio.to_thread.run_sync(happening.end)
    finally:
        servers.close()
    return run


def report(run: Run) -> dict[str, Any]:
    """The figures of a run."""
    return {
        "lease, s": run.lease_s,
        "confirmed": run.confirmed,
        "lost": run.lost,
        "twice": run.twice,
        "stale": run.stale,
        "reads by other processes": run.reads,
        "errors that callers got": dict(sorted(run.failures.items())),
        "longest outage of a counter, s": {
            fault: round(seconds, 2) for fault, seconds in run.outage_by_fault.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="of all faults")
    parser.add_argument("--lease", type=float, default=3.0, help="Limits.lease_s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        url, listen, advertise, lease_s = asked.serve
        anyio.run(serve, url, listen, advertise, float(lease_s))
        return
    if not postgres.is_there():
        sys.exit(postgres.MISSING)
    run = anyio.run(measure, asked.rounds, asked.lease, FAULTS, asked.seed)
    for name, figure in report(run).items():
        print(f"{name}: {figure}")
    if run.lost or run.twice or run.stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
