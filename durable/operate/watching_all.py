"""Watches all processes that share a store, as if they were one program.

Processes that start meanwhile are watched from then on.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from durable._control import control_socket

# How often to look for new processes.
LOOK_S: Final = 1.0
READ_SIZE: Final = 65_536
SHOWN_MAX: Final = 50

Folders = Callable[[], Mapping[int, str]]
"""The folder with the socket of each process, by pid."""


class Watched:
    """The connections to all processes of a store."""

    def __init__(self, folders: Folders, request: bytes) -> None:
        """*request* is sent to each. Raises an OSError if there is none to connect to."""
        self._folders, self._request = folders, request
        self._selector = selectors.DefaultSelector()
        self._rest: dict[socket.socket, bytes] = {}
        self._pids: dict[int, socket.socket] = {}
        self._is_closed = False
        error = self._connect()
        if not self._pids:
            raise error or OSError("no process has the store open")

    def _connect(self) -> OSError | None:
        """Connect to new processes; returns why that failed for one, if it did."""
        failure = None
        for pid, folder in self._folders().items():
            if pid in self._pids:
                continue
            try:
                connection = control_socket.connect(folder)
                connection.sendall(self._request)
            except OSError as error:
                failure = error
                continue
            self._pids[pid] = connection
            self._rest[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ, pid)
        return failure

    def lines(self) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """Each line of a process, with its pid; None now and then, when no line comes. Ends when
        all processes have gone."""
        try:
            while self._pids and not self._is_closed:
                ready = self._selector.select(LOOK_S)
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    for line in self._read(key.fileobj, key.data):
                        yield key.data, line
                if not ready:
                    yield None
                self._connect()
        finally:
            for connection in self._pids.values():
                connection.close()
            self._selector.close()

    def _read(self, connection: socket.socket, pid: int) -> Iterator[dict[str, Any]]:
        try:
            received = connection.recv(READ_SIZE)
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(connection)
            connection.close()
            del self._pids[pid], self._rest[connection]
            return
        *lines, self._rest[connection] = (self._rest[connection] + received).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)

    def close(self) -> None:
        """Stop watching within a second, from any thread."""
        self._is_closed = True

    @property
    def pids(self) -> set[int]:
        """The processes that are watched now."""
        return set(self._pids)


def events(watched: Watched) -> Iterator[dict[str, Any]]:
    """The events of all processes, each with the pid."""
    for said in watched.lines():
        if said is not None:
            pid, event = said
            yield {**event, "pid": pid}


def tops(watched: Watched) -> Iterator[dict[str, Any]]:
    """A report for all processes together, once each of them has made one."""
    reports: dict[int, dict[str, Any]] = {}
    for said in watched.lines():
        if said is not None:
            pid, report = said
            if pid in reports:  # another one was slow
                yield combined(list(reports.values()))
                reports.clear()
            reports[pid] = report
        if reports and watched.pids <= set(reports):
            yield combined(list(reports.values()))
            reports.clear()


def combined(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The reports of several processes as one: sums, but the maximum of times."""
    stuck = [report for report in reports if report.get("stuck")]
    if stuck:
        return stuck[0]
    pids = sorted(report["pid"] for report in reports)
    objects = [found for report in reports for found in report["objects"]]
    objects.sort(key=lambda found: (found["queue"], found["deliveries"]), reverse=True)
    return {
        "pid": pids[0],
        "pids": pids,
        "period_s": max(report["period_s"] for report in reports),
        "deliveries": sum(report["deliveries"] for report in reports),
        "commits": sum(report["commits"] for report in reports),
        "calls": sum(report["calls"] for report in reports),
        "errors": sum(report["errors"] for report in reports),
        "committed": sum(report["committed"] for report in reports),
        "missed": sum(report["missed"] for report in reports),
        "memory_bytes": sum(report["memory_bytes"] or 0 for report in reports) or None,
        "fsync_s": _largest([report["fsync_s"] for report in reports]),
        "call_s": _largest([report["call_s"] for report in reports]),
        "processes": [_of_one(report) for report in reports],
        "statistics": summed([report["statistics"] for report in reports]),
        "objects": objects[:SHOWN_MAX],
    }


def _of_one(report: dict[str, Any]) -> dict[str, Any]:
    """The part of a report that is shown for each process beside the sums."""
    statistics = report["statistics"]
    return {
        **{part: report[part] for part in ("pid", "period_s", "calls", "errors", "committed")},
        "memory_bytes": report["memory_bytes"],
        "live_objects": statistics["live_objects"],
        "queued_deliveries": statistics["queued_deliveries"],
    }


def _largest(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: max((part[key] or 0.0 for part in parts), default=0.0) or None for key in parts[0]}


def summed(parts: list[Any]) -> Any:
    """Numbers are added, tables by their entries; of anything else the first one."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: summed([part[key] for part in parts if key in part]) for key in first}
    if isinstance(first, int | float) and not isinstance(first, bool):
        return sum(parts)
    if isinstance(first, list):
        return [entry for part in parts for entry in part]
    return first
