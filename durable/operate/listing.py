"""A listing of very many objects, in the steps in which it is read.

Rule: little is done for each object: no `Found` is made of it, and it is weighed in the same step.
A step may be empty, if no name has the prefix; a caller can then show its progress.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import astuple, evolve, frozen

from durable._engine.view import Row, history_of, object_of
from durable._model.ids import IdFactory

from .found import Found, StoredClass, Weight, found_of, has_prefix
from .looking import Store
from .weighing import weigh as weigh_one


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


@frozen
class ClassSizes:
    """How much the objects of one class have stored, together."""

    cls: StoredClass
    objects: int
    weight: Weight
    databases: int
    """How many of them have an SQL database."""
    histories: int
    """How many of them have a history."""


def size_of_class(store: Store, cls: StoredClass) -> ClassSizes:
    """Add up what the objects of *cls* have; reads all of them, in steps."""
    weight = Weight(0, 0)
    objects = databases = histories = 0
    for step in listing(store, cls.label, weigh=True):
        weights = [each for _, _, each in step.rows if each is not None]
        objects += len(step.rows)
        databases += sum([each[2] > 0 for each in weights])
        histories += sum([history_of(fields) > 0 for _, fields, _ in step.rows])
        if weights:
            weight += Weight(*map(sum, zip(*weights, strict=True)))
    return ClassSizes(cls, objects, weight, databases, histories)


def _weighed(store: Store, step: Step) -> Step:
    """Weigh the objects that take steps of their own."""
    if all(weight is not None for _, _, weight in step.rows):
        return step
    rows: list[Row] = []
    for base, fields, weight in step.rows:
        if weight is None:
            record = object_of(fields)
            weight = astuple(weigh_one(store._view, record.keyspace, record.history))
        rows.append((base, fields, weight))
    return evolve(step, rows=rows)
