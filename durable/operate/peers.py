"""The processes that share a store, seen from outside."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from typing import Any

from durable._engine.shards import Process
from durable._model.peers import Peers
from durable._runtime.engines import is_url, owners_of, processes_of
from durable._runtime.peer_processes import PeerProcess

from .watching import way_to

ANSWER_S_MAX = 2.0


def peers(store: str | os.PathLike[str], *, peers: Peers | None = None) -> list[PeerProcess]:
    """The processes that share the store in a folder, or have the one in a database, by pid; none
    if the folder is not shared, or the store is not open. Asks them for nothing except, if it was
    opened with `operate=True`, how many objects are in memory: those of this machine, and with
    *peers*, which know their secret, those of other machines.

    Raises FileNotFoundError, StoreDamaged, FormatTooNew, StoreUnavailable.
    """
    path = os.fspath(store)
    if not is_url(path) and not os.path.isdir(path):
        raise FileNotFoundError(f"there is no store in {path!r}")
    shards = Counter(owned.owner for owned in owners_of(path))
    found = [
        PeerProcess(
            id=process.id,
            pid=process.pid,
            address=None if process.is_alone else process.address,
            version=process.version,
            state=process.state,
            shards=shards[process.id],
            live_objects=_live_objects(process, folder, peers),
            is_here=False,
        )
        for process, folder in processes_of(path)
    ]
    return sorted(found, key=lambda process: process.pid)


def _live_objects(process: Process, folder: str | None, peers: Peers | None) -> int | None:
    """The number that the process reports, if it can be asked."""
    connect = way_to(process, folder, peers)
    if connect is None:
        return None
    with suppress(OSError, ValueError, KeyError), connect() as connection:
        connection.settimeout(ANSWER_S_MAX)
        connection.sendall(b'{"want": "statistics"}\n')
        with connection.makefile("r", encoding="utf-8") as lines:
            statistics: Any = json.loads(lines.readline())
        return int(statistics["live_objects"])
    return None
