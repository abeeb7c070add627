"""Programs: what runs on a store, and the classes that its bindings lead to.

Rule: all of it is computed from the store's catalog, before anything is written; so an open that is
refused has changed nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from durable._border.durable_object import DurableObject
from durable._engine.catalog import Catalog, ClassRecord, Naming, label_of
from durable._model.errors import DurableError, InvalidConfig, UnknownClass

from .migrations import Migration
from .planning import Plan, Script, check_usable, plan_migrations

Class = type[DurableObject]


@frozen
class Program:
    """One script, as the program that opens the store has it."""

    script: str | None
    classes: Mapping[str, Class]
    bindings: Mapping[str, Naming]  # by the variable of `env`
    vars: Mapping[str, Any]
    migrations: tuple[Migration, ...] = ()
    # Whether `classes` are all classes of the script.
    is_complete: bool = False
    # Where it was configured: a file, and the table of its bindings.
    file: str | None = None
    table: str | None = None
    # How long the objects of a class can go back, in microseconds, where that is configured.
    histories: Mapping[str, int] = field(factory=dict)


@frozen
class Deployment:
    """The catalog that the store gets, and what runs."""

    plan: Plan
    after: Catalog
    # The usable classes, by number: the store's record and the Python class.
    classes: Mapping[int, tuple[ClassRecord, Class]] = field(factory=dict)
    # By script: the number of the class that each binding leads to.
    bindings: Mapping[str | None, Mapping[str, int]] = field(factory=dict)

    @property
    def before(self) -> Catalog:
        return self.plan.before


def plan_of(catalog: Catalog, programs: Sequence[Program]) -> Plan:
    """The plan of the migrations of *programs*; MigrationConflict if they cannot be applied."""
    scripts = [
        Script(p.script, p.migrations, p.classes if p.is_complete else None) for p in programs
    ]
    return plan_migrations(catalog, scripts, [n for p in programs for n in p.bindings.values()])


def resolve(catalog: Catalog, programs: Sequence[Program]) -> Deployment:
    """The deployment of *programs*, the opened one last, on a store with *catalog*.

    Raises MigrationConflict, and InvalidConfig or UnknownClass if the program lacks a class.
    """
    plan = plan_of(catalog, programs)
    deployment = Deployment(plan, plan.after)
    owners = {program.script: program for program in programs}
    classes = {
        record.number: (record, owners[record.script].classes[record.name])
        for record in plan.after.records
        if not record.is_deleted
        and record.script in owners
        and record.name in owners[record.script].classes
    }
    bindings: dict[str | None, Mapping[str, int]] = {}
    after = plan.after
    for program in programs:
        numbers = {}
        for name, naming in program.bindings.items():
            record = _find(after, program, naming)
            cls = _class_of(program, name, naming if record is None else record.naming, owners)
            if record is None:
                record = after.new_class(naming)
                after = after.replacing(record)
            classes[record.number] = (record, cls)
            numbers[name] = record.number
        bindings[program.script] = numbers
    return evolve(deployment, after=after, classes=classes, bindings=bindings)


def _find(catalog: Catalog, program: Program, naming: Naming) -> ClassRecord | None:
    """The class that is bound; None if it is new. Bindings of other scripts follow a rename."""
    if naming[0] != program.script:
        followed = catalog.follow(naming)
        if followed is not None:
            return followed
    return check_usable(catalog, naming)


def _class_of(
    program: Program, binding: str, naming: Naming, owners: Mapping[str | None, Program]
) -> Class:
    script, name = naming
    owner = owners.get(script)
    if owner is None:
        raise _refusal(
            program,
            f"env.{binding} leads to {label_of(naming)}, and that script is not at hand; list its "
            f"file in scripts",
        )
    cls = owner.classes.get(name)
    if cls is None:
        close = difflib.get_close_matches(name, list(owner.classes), 1)
        known = ", ".join(owner.classes) or "none"
        hint = f"did you mean {close[0]!r}?" if close else f"it has: {known}"
        raise _refusal(
            program,
            f"env.{binding} is bound to the class {label_of(naming)}, and its main module has no "
            f"DurableObject of that name; {hint}",
        )
    return cls


def _refusal(program: Program, what: str) -> DurableError:
    if program.file is None:
        return UnknownClass(what)
    return InvalidConfig(program.file, program.table, "bindings", what)
