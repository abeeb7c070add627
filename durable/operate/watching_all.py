"""Watches all processes that share a store, as if they were one program.

Processes that start meanwhile are watched from then on.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from durable._model.cluster_errors import StoreUnavailable

# How often to look for new processes.
LOOK_S: Final = 1.0
# The pause after a failed attempt to reach a process of another machine.
AGAIN_S: Final = 30.0
READ_SIZE: Final = 65_536
SHOWN_MAX: Final = 50

Connect = Callable[[], socket.socket]
"""Connects to one process. Raises OSError."""


@frozen
class Found:
    """A process that has the store."""

    pid: int
    # Where it is, if it is on another machine.
    address: str | None
    connect: Connect


Find = Callable[[], Mapping[str, Found]]
"""The processes of the store that can be connected to, by id: two machines may have the same pid.
"""


class Watched:
    """The connections to all processes of a store."""

    def __init__(self, find: Find, request: bytes) -> None:
        """*request* is sent to each. Raises an OSError if there is none to connect to."""
        self._find, self._request = find, request
        self._found: Mapping[str, Found] = {}
        self._selector = selectors.DefaultSelector()
        self._rest: dict[socket.socket, bytes] = {}
        self._connected: dict[str, socket.socket] = {}
        # When those that could not be reached are tried again: an attempt may take seconds.
        self._not_before: dict[str, float] = {}
        # Why one of them cannot be watched, as it has said.
        self._refusal = ""
        self._is_closed = False
        error = self._connect()
        if not self._connected:
            raise error or OSError("no process has the store open")

    def _connect(self) -> OSError | None:
        """Connect to new processes; returns why that failed for one, if it did."""
        failure = None
        self._looked_s = time.monotonic()
        try:
            there = self._find()
        except StoreUnavailable:
            if not self._connected:
                raise
            return None  # those that are known may go on without the database
        self._found = {**{process: self._found[process] for process in self._connected}, **there}
        for process, found in there.items():
            if process in self._connected or self._looked_s < self._not_before.get(process, 0.0):
                continue
            try:
                connection = found.connect()
                connection.sendall(self._request)
                connection.setblocking(False)
            except OSError as error:
                failure = error
                if found.address is not None:
                    self._not_before[process] = time.monotonic() + AGAIN_S
                continue
            self._connected[process] = connection
            self._rest[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ, process)
        return failure

    def lines(self) -> Iterator[tuple[str, dict[str, Any]] | None]:
        """Each line of a process, with its id; None now and then, when no line comes. Ends when
        all processes have gone; raises ConnectionError if the last one refused."""
        try:
            while self._connected and not self._is_closed:
                ready = self._selector.select(LOOK_S)
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    for line in self._read(key.fileobj, key.data):
                        if "error" in line and "event" not in line:
                            self._refusal = str(line["error"])
                        else:
                            yield key.data, line
                if not ready:
                    yield None
                if time.monotonic() - self._looked_s >= LOOK_S:
                    self._connect()
            if self._refusal and not self._connected:
                raise ConnectionError(self._refusal)
        finally:
            for connection in self._connected.values():
                connection.close()
            self._selector.close()

    def _read(self, connection: socket.socket, process: str) -> Iterator[dict[str, Any]]:
        try:
            received = connection.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(connection)
            connection.close()
            del self._connected[process], self._rest[connection]
            return
        *lines, self._rest[connection] = (self._rest[connection] + received).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)

    def close(self) -> None:
        """Stop watching within a second, from any thread."""
        self._is_closed = True

    @property
    def processes(self) -> set[str]:
        """The ids of those that are watched now."""
        return set(self._connected)

    def names(self, process: str) -> dict[str, Any]:
        """What says which process an event is of."""
        found = self._found[process]
        return {"pid": found.pid, **({} if found.address is None else {"address": found.address})}


def events(watched: Watched) -> Iterator[dict[str, Any]]:
    """The events of all processes, each with the pid."""
    for said in watched.lines():
        if said is not None:
            process, event = said
            yield {**event, **watched.names(process)}


def tops(watched: Watched, *, has_one_engine: bool = False) -> Iterator[dict[str, Any]]:
    """A report for all processes together, once each of them has made one. *has_one_engine*: each
    of them says of the store what is so for all of it."""
    for reports in _rounds(watched):
        report = combined(reports)
        if has_one_engine and not report.get("stuck"):
            report["statistics"]["store"] = reports[0]["statistics"]["store"]
        yield report


def _rounds(watched: Watched) -> Iterator[list[dict[str, Any]]]:
    """The reports of all processes, one of each."""
    reports: dict[str, dict[str, Any]] = {}
    for said in watched.lines():
        if said is not None:
            process, report = said
            if process in reports:  # another one was slow
                yield list(reports.values())
                reports.clear()
            reports[process] = report
        if reports and watched.processes <= set(reports):
            yield list(reports.values())
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
