"""A listing of very many objects, in the steps in which it is read.

Rule: little is done for each object: no `Found` is made of it, and it is weighed in the same step.
A step may be empty, if no name has the prefix; a caller can then show its progress.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from durable._engine.view import Row, object_of
from durable._model.ids import IdFactory

from .found import Found, StoredClass, Weight, found_of, has_prefix
from .looking import Store


@frozen
class Step:
    """Some objects of one class, as the disk has them: base, record, and weight if requested."""

    cls: StoredClass
    ids: IdFactory
    rows: list[Row]

    def found(self) -> Iterator[tuple[Found, Weight | None]]:
        for base, fields, weight in self.rows:
            yield found_of(self.cls, self.ids, base, object_of(fields)), weight and Weight(*weight)


def listing(
    store: Store, cls: str | None = None, prefix: str | None = None, *, weigh: bool
) -> Iterator[Step]:
    """All objects, or those of one class, in the order of their ids; with *prefix*, those whose
    name begins with it. Raises UnknownClass at the first step."""
    for each in store.classes() if cls is None else [store.cls(cls)]:
        ids = IdFactory(each.unique_key)
        # Weighing objects that will not be shown would be in vain.
        for rows in store._rows(each, weigh=weigh and prefix is None):
            step = Step(each, ids, rows)
            if prefix is not None:
                chosen = [row for row in rows if has_prefix(row[1], prefix)]
                step = evolve(step, rows=chosen)
            yield _weighed(store, step) if weigh else step


def _weighed(store: Store, step: Step) -> Step:
    """Weigh the objects that take steps of their own."""
    if all(weight is not None for _, _, weight in step.rows):
        return step
    rows: list[Row] = []
    for base, fields, weight in step.rows:
        if weight is None:
            weighed = store._weigh(fields[0])
            weight = weighed.keys, weighed.size
        rows.append((base, fields, weight))
    return evolve(step, rows=rows)
