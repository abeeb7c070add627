"""Do memory, file, reader slots and latencies stay flat while a store works for an hour?

Callers increment, read, list, set alarms, delete and clear, on more objects than may be live, so
that eviction never rests. What was measured in the second quarter of the run stands beside the
last one; the first is for warming up.

    python -m benchmarks.soak --minutes 60
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from attrs import define, field, frozen

import durable

from .harness import BACKENDS

OBJECTS = 2_000
LIVE_MAX = 500
CALLERS = 16
KEYS = 50
SAMPLES = 120  # in a run, but no more than one a second and no less than one in ten
LIMITS = durable.Limits(live_objects_max=LIVE_MAX, idle_s_max=2.0, cache_bytes_max=4 << 20)


class Worker(durable.DurableObject):
    """One object of the soak: a counter, some keys, an alarm."""

    rung = 0

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        await self.ctx.storage.put("value", value)
        return value

    async def fill(self, first: int) -> None:
        self.ctx.storage.put({f"key {first + n}": bytes(100) for n in range(10)})

    async def drop(self, first: int) -> int:
        return await self.ctx.storage.delete([f"key {first + n}" for n in range(10)])

    async def count(self) -> int:
        return len(await self.ctx.storage.list(prefix="key "))

    async def clear(self) -> None:
        await self.ctx.storage.delete_all()

    async def remind(self) -> None:
        await self.ctx.storage.set_alarm(timedelta(seconds=random.uniform(0.1, 5)))

    async def alarm(self) -> None:
        Worker.rung += 1
        await self.increment()

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(await self.increment()))


WEIGHTS: dict[str, int] = {
    "increment": 40,
    "fetch": 20,
    "fill": 10,
    "drop": 8,
    "count": 10,
    "clear": 2,
    "remind": 10,
}


@frozen
class Sample:
    """What was seen at one moment, and the latencies since the one before."""

    at_s: float
    memory: int  # bytes resident
    tracked: int  # objects that the garbage collector knows
    file: int  # bytes
    readers: int  # slots taken in the lock file
    live: int
    calls: int
    median_ms: float
    p99_ms: float


@define
class Soak:
    """One run."""

    minutes: float
    samples: list[Sample] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)
    _latencies: list[float] = field(factory=list)

    async def run(self, folder: Path, *, is_loud: bool) -> None:
        async with durable.open(folder, bindings={"WORKERS": Worker}, limits=LIMITS) as runtime:
            async with anyio.create_task_group() as tasks:
                for number in range(CALLERS):
                    tasks.start_soon(self._call, runtime, random.Random(number))
                await self._watch(runtime, is_loud)
                tasks.cancel_scope.cancel()

    async def _call(self, runtime: durable.Runtime, chance: random.Random) -> None:
        workers = runtime.namespace(Worker)
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        while True:
            # Half of the calls go to a few objects, as in life.
            reach = OBJECTS if chance.random() < 0.5 else 20
            stub: Any = workers.get_by_name(f"worker {chance.randrange(reach)}")
            kind = chance.choices(kinds, weights)[0]
            sampled, start_s = len(self.samples), time.perf_counter()
            if kind == "fetch":
                await (await stub.fetch("https://worker/")).text()
            elif kind in {"fill", "drop"}:
                await getattr(stub, kind)(chance.randrange(KEYS))
            else:
                await getattr(stub, kind)()
            if len(self.samples) == sampled:  # taking a sample stops the loop for a moment
                self._latencies.append(time.perf_counter() - start_s)
            self.counts[kind] += 1
            if chance.random() < 0.02:
                await anyio.sleep(0.01)

    async def _watch(self, runtime: durable.Runtime, is_loud: bool) -> None:
        start_s = time.perf_counter()
        every_s = min(10.0, max(self.minutes * 60 / SAMPLES, 0.1 if self.minutes < 1 else 1.0))
        while (at_s := time.perf_counter() - start_s) < self.minutes * 60:
            await anyio.sleep(every_s)
            self.samples.append(self._sample(runtime, at_s))
            if is_loud:
                sys.stderr.write(line(self.samples[-1]) + "\n")

    def _sample(self, runtime: durable.Runtime, at_s: float) -> Sample:
        latencies, self._latencies = sorted(self._latencies), []
        latencies = latencies or [0.0]
        gc.collect()
        seen = runtime.statistics()
        return Sample(
            at_s=at_s,
            memory=_resident(),
            tracked=len(gc.get_objects()),
            file=seen.store.file_size,
            readers=seen.store.readers,
            live=seen.live_objects,
            calls=len(latencies),
            median_ms=latencies[len(latencies) // 2] * 1_000,
            p99_ms=latencies[int(len(latencies) * 0.99)] * 1_000,
        )

    def verdict(self) -> dict[str, tuple[float, float, bool]]:
        """By figure: the median of the second quarter, that of the last, and whether it is flat."""
        quarter = max(len(self.samples) // 4, 1)
        before, after = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        found = {}
        for name, (rise_max, slack) in RISES.items():
            first = statistics.median(getattr(sample, name) for sample in before or after)
            last = statistics.median(getattr(sample, name) for sample in after)
            found[name] = (first, last, last <= first * rise_max + slack)
        return found


# By figure: by what factor it may rise in half a run, and what beside that is noise.
RISES: dict[str, tuple[float, float]] = {
    "memory": (1.05, 4 << 20),
    "tracked": (1.05, 5_000),
    "file": (1.05, 4 << 20),
    "readers": (1.0, 0),
    "median_ms": (1.5, 1.0),
    "p99_ms": (2.0, 20.0),
}


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * 4096


def line(sample: Sample) -> str:
    return (
        f"{sample.at_s:7.1f} s  memory {sample.memory / 1e6:6.1f} MB  {sample.tracked:8,} objects  "
        f"file {sample.file / 1e6:6.1f} MB  {sample.readers} readers  {sample.live:4} live  "
        f"{sample.calls:7,} calls  median {sample.median_ms:6.2f} ms  p99 {sample.p99_ms:7.2f} ms"
    )


def report(soak: Soak) -> str:
    lines = [
        f"{sum(soak.counts.values()):,} calls in {soak.minutes:g} minutes, {Worker.rung:,} alarms"
    ]
    for name, (first, last, is_flat) in soak.verdict().items():
        word = "flat" if is_flat else "RISES"
        lines.append(f"{name:10} {first:14,.2f} -> {last:14,.2f}  {word}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--backend", choices=BACKENDS, default="asyncio")
    parser.add_argument("--folder", help="where the store is made, and deleted")
    parser.add_argument("--quiet", action="store_true", help="print no samples on the way")
    asked = parser.parse_args(arguments)
    soak = Soak(asked.minutes)
    backend, options = BACKENDS[asked.backend]
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:

        async def run() -> None:
            await soak.run(Path(scratch, "store"), is_loud=not asked.quiet)

        anyio.run(run, backend=backend, backend_options=options)
    print(report(soak))
    return int(not all(is_flat for _, _, is_flat in soak.verdict().values()))


if __name__ == "__main__":
    sys.exit(main())
