"""Watching a running program through the socket that it opened with `operate=True`."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from durable._control import control_socket
from durable._model.errors import DurableError
from durable._runtime.engines import is_of_shards
from durable._runtime.store_files import processes_of

from . import watching_all


class NotRunning(DurableError):
    """No program has the store open in such a way that it can be watched."""


def events(store: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """What happens from now on, as it happens; ends when the program closes the store."""
    return _ask(os.fspath(store), "events")


def tops(store: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Each second: the busiest objects, queues, commit latencies, and the program's statistics."""
    return _ask(os.fspath(store), "top")


def _ask(store: str, want: str) -> Iterator[dict[str, Any]]:
    """Connects at once: what is wrong is raised by the call, not by the first step."""
    if not os.path.isdir(store):
        raise FileNotFoundError(f"there is no store in {store!r}")
    if is_of_shards(store):
        return _ask_all(store, want)
    try:
        connection = control_socket.connect(store)
        connection.sendall(json.dumps({"want": want}).encode() + b"\n")
    except OSError as error:
        raise _not_running(store, error) from error
    return _lines(connection)


def _ask_all(store: str, want: str) -> Iterator[dict[str, Any]]:
    """The same of all processes that share the store."""

    def folders() -> dict[int, str]:
        return {process.pid: folder for process, folder in processes_of(store)}

    try:
        watched = watching_all.Watched(folders, want)
    except OSError as error:
        raise _not_running(store, error) from error
    return watching_all.events(watched) if want == "events" else watching_all.tops(watched)


def _not_running(store: str, error: OSError) -> NotRunning:
    return NotRunning(
        f"no program can be watched at the store {store!r}: {error}. It must have opened the "
        f"store with durable.open(..., operate=True), or run with DURABLE_OPERATE=1, as this "
        f"user"
    )


def _lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    try:
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except ConnectionError:
        return
