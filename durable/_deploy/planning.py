"""The plan of a program's migrations: the classes of a store after them, and the steps to there.

Rule: everything is decided here, by functions from the store's catalog to the next one, before
anything is written. A plan is complete; the disk takes it in one transaction or not at all.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence

from attrs import asdict, define, evolve, field, frozen

from durable._engine.catalog import Catalog, ClassRecord, Naming, Weight, label_of
from durable._model.errors import MigrationConflict, UnknownClass

from .migrations import Migration


class ClassNotNamed(MigrationConflict, UnknownClass):
    """A script has migrations, and none of them leaves it a class of this name."""


class Kind(enum.Enum):
    """What a step does to a class."""

    CREATED = "created"
    KEPT = "kept"  # it existed before the script's first migration, which names it
    RENAMED = "renamed"
    TRANSFERRED = "transferred"
    DELETED = "deleted"


@frozen
class Step:
    """The effect of one migration on one class. `before` is None if it creates it."""

    script: str | None
    tag: str
    kind: Kind
    before: ClassRecord | None
    after: ClassRecord

    def facts(self, weight: Weight | None = None) -> dict[str, str | int | None]:
        """The step for a program; *weight* is what the class contains."""
        return {
            "script": self.script,
            "tag": self.tag,
            "does": self.kind.value,
            "class": self.after.name,
            "class_before": None if self.before is None else self.before.name,
            "script_before": None if self.before is None else self.before.script,
            **({} if weight is None else asdict(weight)),
        }

    def words(self, weight: Weight | None = None) -> str:
        """The step as a line for people; *weight* is what the class contains."""
        held = "" if weight is None else f" ({weight})"
        name = self.after.name
        match self.kind:
            case Kind.CREATED:
                return f"{self.tag}: create class {name}"
            case Kind.KEPT:
                return f"{self.tag}: keep class {name}, which the store has already{held}"
            case Kind.RENAMED:
                assert self.before is not None
                return f"{self.tag}: rename class {self.before.name} to {name}{held}"
            case Kind.TRANSFERRED:
                assert self.before is not None
                return f"{self.tag}: transfer class {self.before.label} to {self.after.label}{held}"
            case Kind.DELETED:
                return f"{self.tag}: delete class {name} and all of its objects{held}"


@frozen
class Script:
    """The classes and migrations of one script, as its program declares them."""

    name: str | None
    migrations: tuple[Migration, ...] = ()
    # The classes that its program has, if all are known: each class that the migrations leave must
    # be among them.
    exported: Collection[str] | None = None


@frozen
class Plan:
    """The steps to be taken, and the catalog after them."""

    steps: tuple[Step, ...]
    before: Catalog
    after: Catalog

    @property
    def is_empty(self) -> bool:
        return self.before == self.after

    @property
    def changed(self) -> tuple[ClassRecord, ...]:
        """The records to write."""
        known = set(self.before.records)
        return tuple(record for record in self.after.records if record not in known)

    @property
    def deleted(self) -> tuple[ClassRecord, ...]:
        """The classes that this plan deletes, as they are now."""
        return tuple(s.before for s in self.steps if s.kind is Kind.DELETED and s.before)

    @property
    def new_tags(self) -> tuple[tuple[str | None, str], ...]:
        """The migrations that are applied, by script and tag."""
        return tuple(
            (script, tag)
            for script, tags in self.after.tags.items()
            for tag in tags[len(self.before.tags.get(script, ())) :]
        )

    def words(self, weights: Mapping[int, Weight] | None = None) -> list[str]:
        """The plan for people, a line for each step; *weights* is what the classes contain."""
        weights = weights or {}
        lines = []
        for script, tag in self.new_tags:
            steps = [step for step in self.steps if (step.script, step.tag) == (script, tag)]
            lines += [step.words(weights.get(step.after.number)) for step in steps]
            if not steps:
                lines.append(f"{tag}: nothing changes")
        return lines


def plan_migrations(
    catalog: Catalog, scripts: Sequence[Script], bindings: Collection[Naming] = ()
) -> Plan:
    """The plan for the migrations of *scripts*, in this order, and a store with *catalog*.

    *bindings* are the classes that the program binds; a deletion of one of them is refused. Raises
    MigrationConflict when any step cannot be made.
    """
    draft = _Draft(catalog)
    for script in scripts:
        for migration in _pending(catalog.tags.get(script.name, ()), script):
            draft.apply(script.name, migration)
    plan = Plan(tuple(draft.steps), catalog, draft.catalog)
    _check_bindings(plan, bindings)
    for script in scripts:
        _check_exported(plan, script)
    return plan


def check_usable(catalog: Catalog, naming: Naming) -> ClassRecord | None:
    """The class of this name, or None if it may be registered; ClassNotNamed if it may not."""
    record = catalog.find(naming)
    script, name = naming
    if record is not None or not catalog.tags.get(script):
        return record
    raise ClassNotNamed(_why_unusable(catalog, naming, name))


def _why_unusable(catalog: Catalog, naming: Naming, name: str) -> str:
    moved = catalog.follow(naming)
    if moved is not None:
        return (
            f"the class {label_of(naming)} is now {moved.label}; use it by that name, or create a "
            f"new class {name} in a further migration"
        )
    if any(record.naming == naming for record in catalog.records):
        return (
            f"the class {label_of(naming)} was deleted by a migration; remove what uses it, or "
            f"create a new class {name} in a further migration"
        )
    return (
        f"the class {label_of(naming)} is named by none of the script's migrations; add a further "
        f'one with new_classes = ["{name}"]'
    )


def _pending(applied: Sequence[str], script: Script) -> tuple[Migration, ...]:
    """The migrations that the store has not seen, if the others are just those that it has."""
    tags = [migration.tag for migration in script.migrations]
    of_script = "" if script.name is None else f" of script {script.name!r}"
    twice = sorted({tag for tag in tags if tags.count(tag) > 1})
    if twice:
        raise MigrationConflict(
            f"the tag {twice[0]!r} stands twice in the migrations{of_script}; each needs its own"
        )
    missing = [tag for tag in applied if tag not in tags]
    if missing:
        raise MigrationConflict(
            f"the store has seen the migration {missing[-1]!r}{of_script}, which the list given "
            f"here lacks ({_listed(tags)}); give the list of the program that applied it, with "
            f"every migration in it"
        )
    if list(applied) != tags[: len(applied)]:
        early, seen = next(
            (tag, seen) for tag, seen in zip(tags, applied, strict=False) if tag != seen
        )
        raise MigrationConflict(
            f"the migration {early!r}{of_script} stands before {seen!r}, which the store "
            f"has seen already (it has seen {_listed(applied)}); add new migrations at the end and "
            f"leave the others as they are"
        )
    return script.migrations[len(applied) :]


def _listed(tags: Sequence[str]) -> str:
    return ", ".join(tags) or "which is empty"


@define
class _Draft:
    """The catalog as it becomes, migration by migration."""

    catalog: Catalog
    steps: list[Step] = field(factory=list)

    def apply(self, script: str | None, migration: Migration) -> None:
        is_first = not self.catalog.tags.get(script)
        self._delete(script, migration)
        self._move(script, migration)
        self._create(script, migration, is_first=is_first)
        self.catalog = self.catalog.with_tag(script, migration.tag)

    def _delete(self, script: str | None, migration: Migration) -> None:
        for name in migration.deleted_classes:
            before = self._existing((script, name), migration, "delete")
            after = evolve(before, is_deleted=True, former=())
            self._change(script, migration, Kind.DELETED, before, after)

    def _move(self, script: str | None, migration: Migration) -> None:
        """Renames and transfers happen at once, so two classes may exchange their names."""
        moves: list[tuple[Kind, ClassRecord, Naming]] = []
        for rename in migration.renamed_classes:
            before = self._existing((script, rename.source), migration, "rename")
            moves.append((Kind.RENAMED, before, (script, rename.to)))
        for transfer in migration.transferred_classes:
            if transfer.source_script == script:
                raise MigrationConflict(
                    f"migration {migration.tag!r} transfers {transfer.source} from the script that "
                    f"it is of; within a script a class is renamed, with renamed_classes"
                )
            source = (transfer.source_script, transfer.source)
            before = self._existing(source, migration, "transfer")
            moves.append((Kind.TRANSFERRED, before, (script, transfer.to)))
        leaving = {before.number for _, before, _ in moves}
        if len(leaving) < len(moves):
            raise MigrationConflict(f"migration {migration.tag!r} transfers one class twice")
        for kind, _, to in moves:
            holder = self.catalog.find(to)
            if holder is not None and holder.number not in leaving:
                raise _taken(to, migration, kind)
        afters = [_moved(before, to) for _, before, to in moves]
        self.catalog = self.catalog.replacing(*afters)
        for (kind, before, _), after in zip(moves, afters, strict=True):
            self.steps.append(Step(script, migration.tag, kind, before, after))

    def _create(self, script: str | None, migration: Migration, *, is_first: bool) -> None:
        for name in migration.created_classes:
            naming = (script, name)
            there = self.catalog.find(naming)
            if there is None:
                new = self.catalog.new_class(naming)
                self._change(script, migration, Kind.CREATED, None, new)
            elif is_first:
                self.steps.append(Step(script, migration.tag, Kind.KEPT, there, there))
            else:
                raise _taken(naming, migration, Kind.CREATED)

    def _change(
        self,
        script: str | None,
        migration: Migration,
        kind: Kind,
        before: ClassRecord | None,
        after: ClassRecord,
    ) -> None:
        self.catalog = self.catalog.replacing(after)
        self.steps.append(Step(script, migration.tag, kind, before, after))

    def _existing(self, naming: Naming, migration: Migration, verb: str) -> ClassRecord:
        record = self.catalog.find(naming)
        if record is not None:
            return record
        script = naming[0]
        there = [r.name for r in self.catalog.records if r.script == script and not r.is_deleted]
        raise MigrationConflict(
            f"migration {migration.tag!r} is to {verb} the class {label_of(naming)}, and there is "
            f"no such class; there are: {', '.join(sorted(there)) or 'none'}"
        )


def _moved(before: ClassRecord, to: Naming) -> ClassRecord:
    script, name = to
    former = (*(naming for naming in before.former if naming != to), before.naming)
    return evolve(before, script=script, name=name, former=former)


def _taken(naming: Naming, migration: Migration, kind: Kind) -> MigrationConflict:
    verb = {Kind.CREATED: "create", Kind.RENAMED: "rename a class to"}.get(kind, "transfer to")
    return MigrationConflict(
        f"migration {migration.tag!r} is to {verb} {label_of(naming)}, and there is a class of "
        f"that name; delete or rename that one first"
    )


def _check_bindings(plan: Plan, bindings: Collection[Naming]) -> None:
    for deleted in plan.deleted:
        if deleted.naming in bindings and plan.after.find(deleted.naming) is None:
            raise MigrationConflict(
                f"Cannot apply --delete-class migration to class {deleted.name} without also "
                f"removing the binding that references it"
            )


def _check_exported(plan: Plan, script: Script) -> None:
    if script.exported is None:
        return
    for step in plan.steps:
        # A class that a later step has changed again belongs to that step.
        if step.script != script.name or plan.after.find(step.after.naming) != step.after:
            continue
        if step.after.name not in script.exported:
            known = ", ".join(sorted(script.exported)) or "none"
            raise MigrationConflict(
                f"by migration {step.tag!r} there is a class {step.after.label}, and the main "
                f"module has none of that name; it has: {known}"
            )
