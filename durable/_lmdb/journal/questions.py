"""What is asked of a store with a journal about objects and alarms: its layers, and its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.overlay import objects_of_both

from .. import object_index
from ..environment import Environment
from .layers import LayeredReader, Layers

T = TypeVar("T")


def find_by(
    reader: LayeredReader, file: Environment, class_number: int, base: bytes
) -> ObjectRecord | None:
    """What is known of an object, at the moment of *reader*."""
    is_known, record = reader.seen.find((class_number, base))
    if is_known:
        return record
    # Looked up within the transaction: those of an LMDB that was opened anew are others.
    return reader.read(
        lambda txn: object_index.find(txn, file.handle.databases, class_number, base)
    )


class LayeredQuestions:
    """The part of an `Engine` that looks something up."""

    file: Environment
    in_line: LayeredReader

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return find_by(self.in_line, self.file, class_number, base)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        handle = self.file.handle

        def below(after: bytes | None, count: int) -> list[tuple[bytes, ObjectRecord]]:
            return self.in_line.read(
                lambda txn: object_index.objects(txn, handle.databases, class_number, after, count)
            )

        def look(layers: Layers) -> list[tuple[bytes, ObjectRecord]]:
            known = layers.objects().items()
            above = {base: record for (number, base), record in known if number == class_number}
            return objects_of_both(above, below, after, count_max)

        return self._at_one_moment(look)

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        handle = self.file.handle

        def look(layers: Layers) -> list[DueAlarm]:
            known = layers.objects()
            # Those of objects that a layer knows are hidden by what it says of them.
            count = count_max + len(known)
            below = self.in_line.read(
                lambda txn: object_index.alarms(txn, handle.databases, after, count)
            )
            found = [due for due in below if (due.class_number, due.base) not in known]
            found += [due for due in layers.alarms() if after is None or due > after]
            return sorted(found)[:count_max]

        return self._at_one_moment(look)

    def next_alarm_us(self) -> int | None:
        first = self.alarms(count_max=1)
        return first[0].due_us if first else None

    def _at_one_moment(self, look: Callable[[Layers], T]) -> T:
        while True:
            layers = self.in_line.seen
            found = look(layers)
            # The map of the file may have grown meanwhile, and its transaction be another.
            if self.in_line.seen is layers:
                return found
