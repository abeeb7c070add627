"""Queries of a store for objects, alarms and classes, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog, Weight

from . import class_records, object_index

T = TypeVar("T")


class Questions:
    """The part of an `Engine` that looks something up. A subclass provides the transaction."""

    def _ask(self, look: Callable[..., T], *args: Any) -> T:
        """The result of `look(txn, databases, *args)`."""
        raise NotImplementedError

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self._ask(object_index.find, class_number, base)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        return self._ask(object_index.objects, class_number, after, count_max)

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        return self._ask(object_index.alarms, after, count_max)

    def next_alarm_us(self) -> int | None:
        first = self.alarms(count_max=1)
        return first[0].due_us if first else None

    def catalog(self) -> Catalog:
        return self._ask(class_records.read_catalog)

    def weigh_class(self, class_number: int) -> Weight:
        return self._ask(class_records.weigh, class_number)
