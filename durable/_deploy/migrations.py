"""Migrations, as programs and configuration files write them: the history of a script's classes.

Rule: what is wrong by itself is refused here; what does not fit the store's catalog is refused in
`planning.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen


@frozen
class Rename:
    """A class of the script gets another name."""

    source: str
    to: str


@frozen
class Transfer:
    """A class of another script becomes one of this script. `source_script` is None for a class
    that belongs to no script."""

    source: str
    source_script: str | None
    to: str


def _class_names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise TypeError(f"classes are given as a list of names, not as the string {given!r}")
    return tuple(_class_name(name) for name in given)


def _class_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a class must be a str, not {name!r}")
    if not name.isidentifier():
        raise ValueError(f"{name!r} cannot be the name of a class")
    return name


def _renames(given: Iterable[Mapping[str, str]]) -> tuple[Rename, ...]:
    tables = (_table(table, "renamed_classes", {"from", "to"}) for table in given)
    return tuple(Rename(_class_name(t["from"]), _class_name(t["to"])) for t in tables)


def _transfers(given: Iterable[Mapping[str, str]]) -> tuple[Transfer, ...]:
    tables = (
        _table(table, "transferred_classes", {"from", "from_script", "to"}) for table in given
    )
    return tuple(
        Transfer(_class_name(t["from"]), t["from_script"] or None, _class_name(t["to"]))
        for t in tables
    )


def _table(given: object, which: str, keys: set[str]) -> Mapping[str, str]:
    shape = "{" + ", ".join(f'"{key}": …' for key in sorted(keys)) + "}"
    if not isinstance(given, Mapping) or set(given) != keys:
        raise TypeError(f"each of {which} must have the shape {shape}, not {given!r}")
    if not all(isinstance(value, str) for value in given.values()):
        raise TypeError(f"each of {which} must have texts in the shape {shape}, not {given!r}")
    return given


def _check_tag(migration: object, attribute: object, tag: str) -> None:
    if not isinstance(tag, str):
        raise TypeError(f"the tag of a migration must be a str, not {tag!r}")
    if not tag:
        raise ValueError("the tag of a migration must not be empty")


@frozen(kw_only=True)
class Migration:
    """One step in the history of a script's classes, applied once; the keys of a `[[migrations]]`
    table.

        Migration(tag="v2", renamed_classes=[{"from": "Counter", "to": "Tally"}])

    *tag* names it for ever. Within one migration classes are deleted first, then renamed and
    transferred, then created. *new_sqlite_classes* is the same as *new_classes*;
    *transferred_classes* has `{"from": …, "from_script": …, "to": …}`, with "" for the classes that
    belong to no script. TypeError or ValueError if it is wrong by itself.
    """

    tag: str = field(validator=_check_tag)
    new_classes: tuple[str, ...] = field(default=(), converter=_class_names)
    new_sqlite_classes: tuple[str, ...] = field(default=(), converter=_class_names)
    renamed_classes: tuple[Rename, ...] = field(default=(), converter=_renames)
    deleted_classes: tuple[str, ...] = field(default=(), converter=_class_names)
    transferred_classes: tuple[Transfer, ...] = field(default=(), converter=_transfers)

    def __attrs_post_init__(self) -> None:
        came = [rename.source for rename in self.renamed_classes]
        came += self.deleted_classes
        self._check_once(came, "can be deleted or renamed only once")
        self._check_once(list(self.arrivals), "can be the name of one class only")
        for rename in self.renamed_classes:
            if rename.source == rename.to:
                raise ValueError(f"migration {self.tag!r} renames {rename.to} to itself")

    def _check_once(self, names: list[str], what: str) -> None:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"in migration {self.tag!r}, {', '.join(twice)} {what}")

    @property
    def created_classes(self) -> tuple[str, ...]:
        return (*self.new_classes, *self.new_sqlite_classes)

    @property
    def arrivals(self) -> Iterator[str]:
        """The names that classes have by this migration."""
        yield from (rename.to for rename in self.renamed_classes)
        yield from (transfer.to for transfer in self.transferred_classes)
        yield from self.created_classes
