"""The classes of a store: the number, key, script and name that each has, and those it had.

Rule: a number and a key are assigned once and never again, not even after a deletion; everything
else about a class may change, and touches its record only, however many objects it has.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

Naming = tuple[str | None, str]
"""A script, or None for the classes that belong to none, and the name of a class in it."""


@frozen
class ClassRecord:
    """The store's record of one class."""

    number: int
    unique_key: str
    name: str
    script: str | None = None
    is_deleted: bool = False
    # Its former names that no other class has taken since: bindings follow them.
    former: tuple[Naming, ...] = ()

    @property
    def naming(self) -> Naming:
        return self.script, self.name

    @property
    def label(self) -> str:
        return label_of(self.naming)


@frozen
class Catalog:
    """All classes that a store has ever had, and the migrations that were applied. A value."""

    records: tuple[ClassRecord, ...] = ()
    # The tags of the applied migrations, oldest first, by script.
    tags: Mapping[str | None, tuple[str, ...]] = field(factory=dict)

    @property
    def kept(self) -> dict[int, ClassRecord]:
        """The classes that are not deleted, by number."""
        return {record.number: record for record in self.records if not record.is_deleted}

    def find(self, naming: Naming) -> ClassRecord | None:
        """The class that has this name now."""
        for record in self.records:
            if record.naming == naming and not record.is_deleted:
                return record
        return None

    def follow(self, naming: Naming) -> ClassRecord | None:
        """The class that has this name now, or had it last and was renamed since."""
        found = self.find(naming)
        if found is not None:
            return found
        for record in self.records:
            if naming in record.former and not record.is_deleted:
                return record
        return None

    def new_class(self, naming: Naming) -> ClassRecord:
        """A record for a new class of this name; its key is fresh if the name was ever used."""
        assert self.find(naming) is None
        number = max((record.number for record in self.records), default=0) + 1
        script, name = naming
        key = name if script is None else f"{script}-{name}"
        if any(record.unique_key == key for record in self.records):
            key = f"{key}#{number}"  # no name has a "#", and no number comes twice
        return ClassRecord(number, key, name, script)

    def replacing(self, *changed: ClassRecord) -> Catalog:
        """This catalog with *changed* in place of the records of the same numbers, or added.

        A name that one of them takes no longer leads to the class that had it before.
        """
        taken = {record.naming for record in changed if not record.is_deleted}
        by_number = {record.number: record for record in (*self.records, *changed)}
        records = (
            evolve(record, former=tuple(naming for naming in record.former if naming not in taken))
            if taken.intersection(record.former)
            else record
            for record in by_number.values()
        )
        return evolve(self, records=tuple(records))

    def with_tag(self, script: str | None, tag: str) -> Catalog:
        """This catalog after the migration *tag* of *script*."""
        return evolve(self, tags={**self.tags, script: (*self.tags.get(script, ()), tag)})


def label_of(naming: Naming) -> str:
    """The name of a class in messages."""
    script, name = naming
    return name if script is None else f"{name} of script {script!r}"


@frozen
class Weight:
    """How much the objects of a class contain."""

    objects: int = 0
    alarms: int = 0
    size: int = 0  # bytes of keys and values

    def __str__(self) -> str:
        return (
            f"{_count(self.objects, 'object')}, {_count(self.alarms, 'alarm')}, "
            f"{_count(self.size, 'byte')}"
        )


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
