"""Watching a running program through the socket that it opened with `operate=True`."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from durable._control import control_socket
from durable._engine.shards import Process
from durable._model.errors import DurableError
from durable._model.peers import Peers
from durable._runtime.engines import is_of_shards, is_url, processes_of, shown

from . import watching_all, watching_far


class NotRunning(DurableError):
    """No program has the store open in such a way that it can be watched."""


class Watching(Iterator[dict[str, Any]]):
    """The events or reports of a running program, one after the other."""

    def __init__(self, lines: Iterator[dict[str, Any]], end: Callable[[], None]) -> None:
        self._lines, self._end = lines, end

    def __next__(self) -> dict[str, Any]:
        return next(self._lines)

    def close(self) -> None:
        """Stop watching, from any thread: a waiting reader gets no more."""
        self._end()


def events(
    store: str | os.PathLike[str], *, sampled: bool = False, peers: Peers | None = None
) -> Watching:
    """The events from now on, as they happen; ends when the program closes the store.

    To receive each call slows a busy program down. *sampled*: four times a second a `Sample`, whose
    `events` are all of them or, if there are many, some, with the number of the deliveries that
    were `missed`; that costs a busy program next to nothing. *peers*: for a database, those of the
    store's processes: with their secret, and tls, processes of other machines are watched too."""
    return _ask(os.fspath(store), "events", sampled, peers)


def tops(
    store: str | os.PathLike[str], *, sampled: bool = False, peers: Peers | None = None
) -> Watching:
    """Each second: the busiest objects, queues, commit latencies, and the program's statistics.
    *sampled* as for `events`: which objects are the busiest, and latencies, are then estimated.
    *peers* as for `events`."""
    return _ask(os.fspath(store), "top", sampled, peers)


def _ask(store: str, want: str, sampled: bool, peers: Peers | None) -> Watching:
    """Connects at once: an error is raised by the call, not by the first step."""
    if not is_url(store) and not os.path.isdir(store):
        raise FileNotFoundError(f"there is no store in {store!r}")
    if is_url(store) or is_of_shards(store):
        return _ask_all(store, want, sampled, peers)
    try:
        connection = control_socket.connect(store)
        connection.sendall(_request(want, sampled))
    except OSError as error:
        raise _not_running(store, error) from error
    return Watching(_lines(connection), lambda: _hang_up(connection))


def is_watched(store: str | os.PathLike[str], process: str) -> bool:
    """Whether this process, of those that share the store, can be watched."""
    for found, folder in processes_of(os.fspath(store)):
        if found.id == process and folder is not None:
            with suppress(OSError):
                control_socket.connect(folder).close()
                return True
    return False


def way_to(
    process: Process, folder: str | None, peers: Peers | None
) -> Callable[[], socket.socket] | None:
    """What connects with a process to ask it: by its socket in *folder*, or, on another machine, as
    one of *peers*. None if there is no way; what it returns raises OSError."""
    if folder is not None:
        return partial(control_socket.connect, folder)
    if peers is not None and process.address:
        return partial(watching_far.connect, process, peers)
    return None


def _request(want: str, sampled: bool) -> bytes:
    return json.dumps({"want": want, "sampled": sampled}).encode() + b"\n"


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _ask_all(store: str, want: str, sampled: bool, peers: Peers | None) -> Watching:
    """The same for all processes that share the store."""

    def find() -> dict[str, watching_all.Found]:
        found: dict[str, watching_all.Found] = {}
        for process, folder in processes_of(store):
            connect = way_to(process, folder, peers)
            if connect is not None:
                address = process.address if folder is None else None
                found[process.id] = watching_all.Found(process.pid, address, connect)
        return found

    try:
        watched = watching_all.Watched(find, _request(want, sampled))
    except OSError as error:
        raise _not_running(store, error) from error
    if want == "events":
        return Watching(watching_all.events(watched), watched.close)
    reports = watching_all.tops(watched, has_one_engine=is_url(store))
    return Watching(reports, watched.close)


def _not_running(store: str, error: OSError) -> NotRunning:
    where = "on this machine, or with the `peers` of its processes, " if is_url(store) else ""
    return NotRunning(
        f"no program can be watched at the store {shown(store)!r}: {error}. It must have opened "
        f"the store with durable.open(..., operate=True), or run with DURABLE_OPERATE=1, {where}as "
        f"this user"
    )


def _lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    try:
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (ConnectionError, ValueError):  # the latter if half a line came
        return
