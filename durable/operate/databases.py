"""The SQL database of an object, read from outside: no object wakes, nothing is written.

Its size is known without `durable-objects[sql]`; all else needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from durable._engine.problem import Problem
from durable._engine.side_records import PAGES, end_of
from durable._model.errors import DurableError, MissingExtra

from . import weighing
from .found import Found
from .looking import Store, look

if TYPE_CHECKING:
    from .stored_database import StoredDatabase


class NoDatabase(DurableError):
    """The object has no SQL database."""


def has_database(store: Store, found: Found) -> bool:
    """Whether the object has an SQL database; without the extra, too."""
    return next(store.sides(found, PAGES, end_of(PAGES)), None) is not None


def database_size(store: Store, found: Found) -> int:
    """Bytes of the pages of the object's database; 0 if it has none. Without the extra, too."""
    return weighing.database_size(store._view, found.number)


@contextmanager
def open_database(store: Store, found: Found) -> Iterator[StoredDatabase]:
    """The database of an object, in one snapshot. Raises NoDatabase, StoreDamaged; MissingExtra
    without the extra."""
    try:
        opening: Any = import_module("durable.operate.stored_database")
    except ModuleNotFoundError as error:
        if error.name != "apsw":
            raise
        raise MissingExtra("SQL needs SQLite as the package apsw brings it", "sql") from error
    with store.one_moment():
        if not has_database(store, found):
            raise NoDatabase(f"the object {found.id} of {found.cls.label} has no SQL database")
        with opening.opened(store, found) as database:
            yield database


def check_databases(path: str | os.PathLike[str]) -> list[Problem]:
    """The problems that SQLite's own check finds in the databases of all objects of a store."""
    problems: list[Problem] = []
    with look(path) as store:
        for found in store.objects():
            if not has_database(store, found):
                continue
            with open_database(store, found) as database:
                which = found.id if found.name is None else repr(found.name)
                where = f"the database of the object {which} of {found.cls.label}"
                problems += [Problem(where, what) for what in database.problems()]
    return problems


def export_sqlite(store: Store, found: Found, path: str | os.PathLike[str]) -> int:
    """Write the database of an object to a new file *path*, as a plain SQLite file; returns its
    size. Raises FileExistsError, NoDatabase, StoreDamaged; then no file is left."""
    target = Path(path)
    with open_database(store, found) as database:
        with target.open("xb") as file:
            try:
                return _write(file, database)
            except BaseException:
                with suppress(OSError):
                    target.unlink()
                raise


def _write(file: BinaryIO, database: StoredDatabase) -> int:
    for page in database.pages():
        file.write(page)
    file.flush()
    os.fsync(file.fileno())
    return file.tell()
