"""A view of an open store with a journal: of its file, into which all is brought before each step.

So what was confirmed before a step is seen by it. For a thread that may wait for the disk.
"""

from __future__ import annotations

from attrs import define

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog
from durable._engine.measures import Measures
from durable._engine.view import Listed, Malformed, View

from .journaled import Journaled


@define(eq=False)
class JournaledView:
    """A `View`."""

    engine: Journaled
    view: View

    def _file(self) -> View:
        self.engine.bring_in()
        return self.view

    def catalog(self) -> Catalog:
        return self._file().catalog()

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self._file().find(class_number, base)

    def count(self, class_number: int, after: bytes | None, count_max: int) -> list[bytes]:
        return self._file().count(class_number, after, count_max)

    def listed(
        self, class_number: int, after: bytes | None, count_max: int, *, weigh: bool
    ) -> Listed:
        return self._file().listed(class_number, after, count_max, weigh=weigh)

    def scan(
        self, keyspace: int, lower: str, upper: str | None
    ) -> tuple[list[tuple[str, bytes]], bool]:
        return self._file().scan(keyspace, lower, upper)

    def sides(self, keyspace: int, lower: bytes, upper: bytes) -> list[tuple[bytes, bytes]]:
        return self._file().sides(keyspace, lower, upper)

    def alarmed(
        self, after: DueAlarm | None, count_max: int
    ) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
        return self._file().alarmed(after, count_max)

    def measure(self) -> Measures:
        return self._file().measure()

    def close(self) -> None:
        self.view.close()
