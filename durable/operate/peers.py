"""The processes that share a store, seen from outside."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from typing import Any

from durable._control import control_socket
from durable._runtime.peer_processes import PeerProcess
from durable._runtime.store_files import owners_of, processes_of

ANSWER_S_MAX = 2.0


def peers(store: str | os.PathLike[str]) -> list[PeerProcess]:
    """The processes that share the store in a folder, by pid; none if it is not shared, or is not
    open. Asks them for nothing except, if it was opened with `operate=True`, how many objects are
    in memory. Raises FileNotFoundError, StoreDamaged, FormatTooNew.
    """
    path = os.fspath(store)
    if not os.path.isdir(path):
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
            live_objects=_live_objects(folder),
            is_here=False,
        )
        for process, folder in processes_of(path)
    ]
    return sorted(found, key=lambda process: process.pid)


def _live_objects(folder: str) -> int | None:
    """The number that the process reports, if it can be asked."""
    with suppress(OSError, ValueError, KeyError), control_socket.connect(folder) as connection:
        connection.settimeout(ANSWER_S_MAX)
        connection.sendall(b'{"want": "statistics"}\n')
        with connection.makefile("r", encoding="utf-8") as lines:
            statistics: Any = json.loads(lines.readline())
        return int(statistics["live_objects"])
    return None
