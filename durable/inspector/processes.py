"""The processes that have a store open, and the shards of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

import attrs

from durable import operate
from durable._runtime.engines import is_of_shards
from durable._runtime.peer_processes import PeerProcess
from durable._runtime.store_files import owners_of


def of_folder(path: str) -> dict[str, Any]:
    """The processes of the store in a folder; for a thread."""
    if is_of_shards(path):
        return described(path, operate.peers(path), is_shared=True)
    processes: list[dict[str, Any]] = []
    with suppress(operate.NotRunning), closing(operate.tops(path, sampled=True)) as reports:
        report = next(reports, None)
        if report is not None:
            statistics = report.get("statistics", {})
            processes.append(
                {
                    "pid": report["pid"],
                    "state": "stuck" if report.get("stuck") else "ready",
                    "shards": None,
                    "live_objects": statistics.get("live_objects"),
                    "version": None,
                }
            )
    return {"is_shared": False, "processes": processes, "shards": []}


def described(path: str, found: Iterable[PeerProcess], is_shared: bool) -> dict[str, Any]:
    """The processes, and for each shard the pid of its owner, None if it has none."""
    processes = list(found)
    pids = {process.id: process.pid for process in processes}
    shards = [pids.get(owned.owner or "") for owned in owners_of(path)] if is_shared else []
    # Counted from one list, in which a shard that moves is with one process only.
    counts = Counter(shards)
    return {
        "is_shared": is_shared,
        "processes": [
            {**attrs.asdict(each), "shards": counts[each.pid] if is_shared else each.shards}
            for each in processes
        ],
        "shards": shards,
    }
