"""Reads for cache misses: from the disk at once, or by a thread that reads for many at a time.

In-line is the default, since a get costs a microsecond or two and a hop to a thread a hundred. The
thread is for stores larger than memory, where a get may wait for the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from attrs import define, field

from durable._model.errors import DurableError, InternalError, RuntimeClosed

from .engine import Engine, OwnReader, Reader

T = TypeVar("T")


class ReadFaults(Protocol):
    """A test's control over reads."""

    @property
    def holds_reads(self) -> bool:
        """Whether reads go to the thread from now on, where `before_read` may hold them."""

    def before_read(self) -> None:
        """Called on the reader's thread; may block."""


@define(eq=False, slots=True)
class _Request:
    read: Callable[[Reader], Any]
    on_done: Callable[[Any], None]
    on_failed: Callable[[DurableError], None]


@define(eq=False, repr=False)
class Reads:
    """A `Reader` that reads in-line, and `fetch`, which reads in the thread. For the loop's."""

    _engine: Engine
    _call_soon_threadsafe: Callable[[Callable[[], None]], object]
    _inline: bool = field(default=True, kw_only=True)
    _faults: ReadFaults | None = field(default=None, kw_only=True)
    get: Callable[[int, str], bytes | None] = field(init=False)
    get_many: Callable[[int, Iterable[str]], dict[str, bytes]] = field(init=False)
    scan_some: Any = field(init=False)
    keys_some: Any = field(init=False)
    count_some: Any = field(init=False)
    count_present: Any = field(init=False)
    get_side: Callable[[int, bytes], bytes | None] = field(init=False)
    get_sides: Callable[[int, Sequence[bytes]], list[bytes | None]] = field(init=False)
    scan_sides: Any = field(init=False)
    waiting: int = field(default=0, init=False)  # fetched and not yet reported
    _queue: SimpleQueue[_Request | None] = field(factory=SimpleQueue, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        records = self._engine.in_line
        self.get = records.get
        self.get_many = records.get_many
        self.scan_some = records.scan_some
        self.keys_some = records.keys_some
        self.count_some = records.count_some
        self.count_present = records.count_present
        self.get_side = records.get_side
        self.get_sides = records.get_sides
        self.scan_sides = records.scan_sides

    @property
    def inline(self) -> bool:
        """Whether to read a miss in-line, on the loop's thread; else in the reading thread."""
        return self._inline and (self._faults is None or not self._faults.holds_reads)

    def fetch(
        self,
        read: Callable[[Reader], T],
        on_done: Callable[[T], None],
        on_failed: Callable[[DurableError], None],
    ) -> None:
        """Call *read* on the reader's thread; it sees all that was reported durable before.

        Then one of the callbacks, on the loop's thread, in the order of the calls.
        """
        if self._is_closed:
            raise RuntimeClosed
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="durable reader", daemon=True)
            self._thread.start()
        self.waiting += 1
        self._queue.put(_Request(read, on_done, on_failed))

    def close(self) -> None:
        """End the thread; it first reads what it still has to, and may report that or not."""
        self._is_closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    # On the reader's thread

    def _run(self) -> None:
        reader = self._engine.new_reader()
        is_last = False
        try:
            while not is_last:
                requests, is_last = self._take()
                reader.release()  # these requests must see what was reported before they were made
                reports = [self._answer(request, reader) for request in requests]
                # A thread that waits pins no pages.
                reader.release()
                if reports:
                    with suppress(RuntimeError):  # the loop may be closed
                        self._call_soon_threadsafe(partial(self._report, reports))
        finally:
            reader.close()

    def _take(self) -> tuple[list[_Request], bool]:
        """All requests that wait, and whether they are the last; waits until there is one."""
        request = self._queue.get()
        requests: list[_Request] = []
        while request is not None:
            requests.append(request)
            try:
                request = self._queue.get_nowait()
            except Empty:
                return requests, False
        return requests, True

    def _answer(self, request: _Request, reader: OwnReader) -> Callable[[], None]:
        try:
            if self._faults is not None:
                self._faults.before_read()
            return partial(request.on_done, request.read(reader))
        except DurableError as error:
            return partial(request.on_failed, error)
        except Exception as cause:
            failure = InternalError(f"a read from the store failed: {cause!r}")
            failure.__cause__ = cause
            return partial(request.on_failed, failure)

    def _report(self, reports: list[Callable[[], None]]) -> None:
        """Call each request's callback, in order, whatever one of them does."""
        while reports:
            self.waiting -= 1
            try:
                reports.pop(0)()
            except BaseException:
                if reports:
                    with suppress(RuntimeError):
                        self._call_soon_threadsafe(partial(self._report, reports))
                raise

    def __repr__(self) -> str:
        return f"<Reads {'in-line' if self.inline else 'in a thread'}>"
