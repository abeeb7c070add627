"""The catalog of classes as rows, and its changes, each of which is one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, LiteralString

from durable._engine.catalog import Catalog, ClassRecord

from .confirming import CONFIRMED
from .connection import Connection, Rows

# The name of a script is not empty, so this stands for no script.
_NO_SCRIPT: Final = ""

Run = Callable[..., Rows]

# One statement, so that both are from one snapshot.
_READ: Final[LiteralString] = (
    "select (select coalesce(json_agg(c order by c.number), '[]')::text "
    "from durable.classes as c), "
    "(select coalesce(json_agg(t order by t.script, t.place), '[]')::text "
    "from durable.tags as t)"
)
_READ_CONFIRMED: Final[LiteralString] = _READ + ", " + CONFIRMED


def read_catalog(run: Run) -> Catalog:
    """All classes, and the tags of all scripts; *run* runs a statement."""
    return _catalog_of(run(_READ))


def read_confirmed_catalog(run: Run) -> Catalog:
    """The same, once a standby in its primary's place would have it, too. What is stored under the
    number of a class that such a standby does not know would be under that of another one later."""
    return _catalog_of(run(_READ_CONFIRMED))


def _catalog_of(rows: Rows) -> Catalog:
    [(classes, tags, *_)] = rows
    by_script: dict[str | None, tuple[str, ...]] = {}
    for row in json.loads(tags):
        script = row["script"] or None
        by_script[script] = (*by_script.get(script, ()), row["tag"])
    records = tuple(
        ClassRecord(
            row["number"],
            row["unique_key"],
            row["name"],
            row["script"],
            row["is_deleted"],
            tuple((script, name) for script, name in row["former"]),
        )
        for row in json.loads(classes)
    )
    return Catalog(records, by_script)


def change_catalog(connection: Connection, before: Catalog, after: Catalog) -> bool:
    """Replace the catalog *before* by *after*; returns False, and changes nothing, if the stored
    one is not *before*."""
    with connection.transaction() as run:
        # Every change locks this row first; so the catalog read now stays so until the commit.
        run("select from durable.meta where key = 'catalog' for update")
        if read_catalog(run) != before:
            return False
        run(
            "update durable.meta set value = "
            "convert_to((convert_from(value, 'UTF8')::bigint + 1)::text, 'UTF8') "
            "where key = 'catalog'"
        )
        _write(run, before, after)
    return True


def _write(run: Run, before: Catalog, after: Catalog) -> None:
    known = {record.number: record for record in before.records}
    for record in after.records:
        if known.get(record.number) == record:
            continue
        run(
            "insert into durable.classes "
            "(number, unique_key, name, script, is_deleted, former) "
            "values (%s, %s, %s, %s, %s, %s::jsonb) on conflict (number) do update set "
            "unique_key = excluded.unique_key, name = excluded.name, script = excluded.script, "
            "is_deleted = excluded.is_deleted, former = excluded.former",
            (
                record.number,
                record.unique_key,
                record.name,
                record.script,
                record.is_deleted,
                json.dumps(record.former),
            ),
        )
        if record.is_deleted:
            run(
                "insert into durable.garbage_classes (class_number) values (%s) "
                "on conflict do nothing",
                (record.number,),
            )
    for script, tags in after.tags.items():
        done = len(before.tags.get(script, ()))
        for place, tag in enumerate(tags[done:], done):
            run(
                "insert into durable.tags (script, place, tag) values (%s, %s, %s)",
                (script or _NO_SCRIPT, place, tag),
            )
