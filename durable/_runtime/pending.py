"""Migrations applied by hand: see what a file would do to its store, then do exactly that."""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import field, frozen

from durable._deploy.config import read_config
from durable._deploy.loading import load_programs, store_folder
from durable._deploy.planning import Kind, Plan
from durable._deploy.programs import plan_of
from durable._engine.catalog import Catalog, Weight
from durable._model.clock import Clock, SystemClock
from durable._model.errors import MigrationConflict

from .engines import open_to_read, open_to_write


@frozen
class PendingMigrations:
    """The migrations that the store in `path` has not seen yet. A value; `apply` applies them."""

    path: str
    plan: Plan
    # What the existing classes contain, by number.
    weights: dict[int, Weight]
    _clock: Clock = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether the store is up to date."""
        return self.plan.is_empty

    @property
    def deletes(self) -> bool:
        """Whether classes would be deleted, with all that they contain."""
        return bool(self.plan.deleted)

    def words(self) -> list[str]:
        """A line for each change that would be made, with what the classes contain."""
        return self.plan.words(self.weights)

    def facts(self) -> list[dict[str, str | int | None]]:
        """The same for a program: a table for each change of a class."""
        return [step.facts(self.weights.get(step.after.number)) for step in self.plan.steps]

    def deleted(self) -> list[str]:
        """A line for each class that would be deleted: its name and what it contains."""
        steps = (step for step in self.plan.steps if step.kind is Kind.DELETED)
        return [
            f"{step.after.label}: {self.weights.get(step.after.number, Weight())}" for step in steps
        ]

    def apply(self, on_freed: Callable[[int], None] = lambda count: None) -> None:
        """Apply them in one transaction, then free in steps what was deleted. Blocks.

        *on_freed* is called after each step with the number of things freed so far. Raises
        StoreInUse while the store has an owner, and MigrationConflict if the store has changed
        since; then nothing was changed.
        """
        engine = open_to_write(self.path, self._clock)
        try:
            if engine.catalog() != self.plan.before:
                raise MigrationConflict(
                    f"the classes of the store {self.path!r} have changed since they were looked "
                    f"at; look again"
                )
            if not self.plan.is_empty:
                engine.change_classes(self.plan.before, self.plan.after)
            freed = 0
            while engine.has_garbage:
                freed += engine.collect_garbage()
                on_freed(freed)
        finally:
            engine.close()


def pending_migrations(
    file: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str] | None = None,
    environment: str | None = None,
    old_tag: str | None = None,
    clock: Clock | None = None,
) -> PendingMigrations:
    """What the migrations of the configuration *file*, in its environment *environment*, would do
    to the store. Changes nothing, and may read beside the store's owner.

    *old_tag*, if given, must be the tag that was applied last ("" for none). Raises InvalidConfig,
    MigrationConflict, and what reading a store raises.
    """
    config = read_config(file, environment)
    folder = store_folder(config, path)
    programs, _ = load_programs(config)
    clock = clock or SystemClock()
    try:
        looked_at = open_to_read(folder, clock)
    except FileNotFoundError:  # the first open will make it
        _check_old_tag(Catalog(), config.script.name, old_tag)
        return PendingMigrations(folder, plan_of(Catalog(), programs), {}, clock)
    try:
        catalog = looked_at.catalog()
        _check_old_tag(catalog, config.script.name, old_tag)
        plan = plan_of(catalog, programs)
        touched = {step.before.number for step in plan.steps if step.before is not None}
        known = touched.intersection(record.number for record in catalog.records)
        weights = {number: looked_at.weigh_class(number) for number in sorted(known)}
    finally:
        looked_at.close()
    return PendingMigrations(folder, plan, weights, clock)


def _check_old_tag(catalog: Catalog, script: str | None, old_tag: str | None) -> None:
    applied = catalog.tags.get(script, ())
    last = applied[-1] if applied else ""
    if old_tag is not None and old_tag != last:
        raise MigrationConflict(
            f"the last migration that the store has seen is {last!r}, not {old_tag!r} as expected"
        )
