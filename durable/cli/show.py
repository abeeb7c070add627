"""The commands that only read: `ls`, `show`, `alarms`, `stats`, `check`, on a store in use too."""

from __future__ import annotations

import base64
from typing import Any

import attrs
import click

from durable import Timer, operate
from durable.operate import Found, Store, Unreadable
from durable.operate.databases import database_size
from durable.operate.json_lines import json_line
from durable.operate.json_timers import timer_to_json
from durable.operate.listing import ClassSizes, Step, listing, size_of_class

from . import checking
from .object_lines import object_lines
from .plain_text import say
from .printing import (
    as_json,
    in_steps,
    moment,
    print_json,
    print_now,
    print_pairs,
    print_table,
    progress,
    say_left_out,
    shown,
    size,
)

VALUE_SHOWN_MAX = 2_000  # characters


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="[CLASS]", required=False)
@click.option("--prefix", help="Only objects whose names begin with this.")
@click.option(
    "--fast", is_flag=True, help="Do not count keys and bytes, nor look at databases and histories."
)
@as_json
def ls(folder: str, cls: str | None, prefix: str | None, fast: bool, is_json: bool) -> int:
    """List classes, or the objects of one class.

    Without CLASS it lists the classes of the store in FOLDER, else the objects of CLASS.
    """
    with operate.look(folder) as store:
        if cls is None and prefix is None:
            _list_classes(store, is_json)
            return 0
        steps = listing(store, cls, prefix, weigh=not fast)
        if is_json:
            for step in steps:
                print_now(object_lines(step))
        else:
            print_table(
                ("name", "id", "keys", "bytes", "database", "history", "next alarm", "created"),
                map(_rows, steps),
                nothing="there are no such objects",
            )
        return say_left_out(store)


def _list_classes(store: Store, is_json: bool) -> None:
    if is_json:
        for each in store.classes():
            print_json({
                "class": each.name, "script": each.script, "unique_key": each.unique_key,
                "objects": store.count(each),
            })  # fmt: skip
        return
    rows = ([(each.label, each.unique_key, f"{store.count(each):,}")] for each in store.classes())
    print_table(("class", "unique key", "objects"), rows, nothing="the store has no classes")


def _rows(step: Step) -> list[tuple[str, ...]]:
    return [
        (
            shown(found.name),
            str(found.id),
            f"{weight.keys:,}" if weight else "-",
            size(weight.size) if weight else "-",
            _size_or_none(weight.database_size if weight else 0),
            _size_or_none(weight.history_size if weight else 0),
            moment(found.alarm.due if found.alarm else None),
            moment(found.created),
        )
        for found, weight in step.found()
    ]


def _size_or_none(bytes: int) -> str:
    return size(bytes) if bytes else "-"


def described(found: Found) -> dict[str, Any]:
    """An object, for JSON; `object_lines` writes the same."""
    alarm = found.alarm
    return {
        "class": found.cls.name,
        "script": found.cls.script,
        "id": str(found.id),
        "name": found.name,
        "created": found.created.isoformat(),
        "alarm": None
        if alarm is None
        else {
            "due": alarm.due.isoformat(),
            "scheduled": alarm.scheduled.isoformat(),
            "retry_count": alarm.retry_count,
        },
    }


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.option("--prefix", default="", help="Only keys that begin with this.")
@click.option("--start", help="Begin with this key.")
@click.option("--end", help="End before this key.")
@click.option("--limit", type=click.IntRange(min=1), help="Print at most this many keys.")
@as_json
def show(
    folder: str,
    cls: str,
    name_or_id: str,
    prefix: str,
    start: str | None,
    end: str | None,
    limit: int | None,
    is_json: bool,
) -> None:
    """Show one object: its keys, values, alarm and timers.

    Prints the sizes of its database and its history too, if it has them.
    """
    with operate.look(folder) as store:
        found = store.find(cls, name_or_id)
        items = store.items(found, prefix=prefix, start=start, end=end, limit=limit)
        database = database_size(store, found)
        timers = store.timers(found)
        past = operate.history(store, found.cls.label, str(found.id)) if found.history else None
        if is_json:
            more: dict[str, Any] = {"database_bytes": database}
            if timers:
                more["timers"] = list(map(timer_to_json, timers))
            if past is not None:
                more["history"] = {"oldest": past.oldest, "bytes": past.size}
            print_json({"object": {**described(found), **more}})
            for key, value in items:
                print_json(_item(key, value))
            return
        print_pairs(
            [
                ("class", found.cls.label),
                ("name", shown(found.name)),
                ("id", str(found.id)),
                ("created", moment(found.created)),
                ("next alarm", moment(found.alarm.due if found.alarm else None)),
            ]
            + ([("database", size(database))] if database else [])
            + ([("history", f"{size(past.size)}, since {moment(past.begins)}")] if past else [])
        )
        if timers:
            say("")
            print_table(
                ("timer", "rings at", "every", "retries", "payload"),
                [[_timer_row(timer) for timer in timers]],
                nothing="",
            )
        say("")
        rows = ((key, _value(value)) for key, value in items)
        is_chosen = prefix or start is not None or end is not None
        nothing = "there are no such keys" if is_chosen else "it has no keys"
        print_table(("key", "value"), in_steps(rows), nothing=nothing)


def _timer_row(timer: Timer) -> tuple[str, ...]:
    zone = "" if timer.time_zone is None else f" ({timer.time_zone})"
    return (
        shown(timer.name),
        moment(timer.due),
        "-" if timer.schedule is None else f"{timer.schedule}{zone}",
        str(timer.retry_count),
        _value(timer.payload),
    )


def _item(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Unreadable):
        encoded = base64.b64encode(value.encoded).decode()
        return {"key": key, "encoded": encoded, "why": value.why}
    return {"key": key, "value": operate.to_json(value)}


def _value(value: Any) -> str:
    text = f"({value.why})" if isinstance(value, Unreadable) else repr(value)
    if len(text) > VALUE_SHOWN_MAX:
        text = f"{text[:VALUE_SHOWN_MAX]}… ({len(text):,} characters; --json shows all)"
    return text


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="[CLASS]", required=False)
@as_json
def alarms(folder: str, cls: str | None, is_json: bool) -> int:
    """List pending alarms, soonest first.

    For an object with timers it lists the next one; `durable show` lists all of them.
    """
    with operate.look(folder) as store:
        steps = store._alarm_steps(cls)
        if is_json:
            for step in steps:
                print_now("".join([json_line(_alarm(store, found)) for found in step]))
        else:
            columns = ("rings at", "class", "name", "timer", "id", "retries")
            rows = (_alarm_rows(store, step) for step in steps)
            print_table(columns, rows, nothing="there are no alarms")
        return say_left_out(store)


def _alarm(store: Store, found: Found) -> dict[str, Any]:
    name = _first_timer(store, found)
    return described(found) if name is None else {**described(found), "timer": name}


def _first_timer(store: Store, found: Found) -> str | None:
    """The name of the timer that the alarm is for; None if it is an alarm."""
    timers = store.timers(found)
    return timers[0].name if timers else None


def _alarm_rows(store: Store, step: list[Found]) -> list[tuple[str, ...]]:
    return [
        (
            moment(found.alarm.due), found.cls.label, shown(found.name),
            shown(_first_timer(store, found)), str(found.id), str(found.alarm.retry_count),
        )
        for found in step
        if found.alarm is not None
    ]  # fmt: skip


@click.command()
@click.argument("folder")
@click.option(
    "--sizes",
    "with_sizes",
    is_flag=True,
    help="Add up keys, databases and histories for each class, which reads them.",
)
@as_json
def stats(folder: str, with_sizes: bool, is_json: bool) -> int:
    """Show the size of a store and how much is in it.

    Prints file size, free pages, map size, reader slots and the number of records, at the same cost
    for a store of any size. With --sizes it reads all objects, and prints for each class how much
    they have: keys, SQL databases and histories.
    """
    with operate.look(folder) as store:
        found = store.measure()
        sizes = [size_of_class(store, each) for each in store.classes()] if with_sizes else []
        status = say_left_out(store)
    if is_json:
        more = {"sizes": [_sizes_to_json(each) for each in sizes]} if with_sizes else {}
        print_json({**attrs.asdict(found), "advice": found.advice, **more})
        return status
    print_pairs(
        [
            ("file", size(found.file_size)),
            ("map", size(found.map_size)),
            ("pages", f"{found.pages:,} of {size(found.page_size)}"),
            ("free pages", f"{found.free_pages:,} ({size(found.free_pages * found.page_size)})"),
            ("readers", f"{found.readers} of {found.readers_max}"),
            ("commits", f"{found.last_commit:,}"),
            ("classes", f"{found.classes:,}"),
            ("objects", f"{found.objects:,}"),
            ("records", f"{found.records:,}"),
            ("alarms", f"{found.alarms:,}"),
            ("garbage", f"{found.garbage:,}"),
        ]
        + ([] if found.advice is None else [("advice", found.advice)])
    )
    if with_sizes:
        say("")
        columns = ("class", "objects", "keys", "bytes", "databases", "bytes", "histories", "bytes")
        print_table(columns, [list(map(_sizes_row, sizes))], nothing="the store has no classes")
    return status


def _sizes_row(of: ClassSizes) -> tuple[str, ...]:
    return (
        of.cls.label,
        f"{of.objects:,}",
        f"{of.weight.keys:,}",
        size(of.weight.size),
        f"{of.databases:,}",
        size(of.weight.database_size),
        f"{of.histories:,}",
        size(of.weight.history_size),
    )


def _sizes_to_json(of: ClassSizes) -> dict[str, Any]:
    return {
        "class": of.cls.name,
        "script": of.cls.script,
        "objects": of.objects,
        "keys": of.weight.keys,
        "bytes": of.weight.size,
        "databases": of.databases,
        "database_bytes": of.weight.database_size,
        "histories": of.histories,
        "history_bytes": of.weight.history_size,
    }


@click.command()
@click.argument("folder")
@click.option(
    "--other-codec", is_flag=True, help="Do not decode values: the store has a custom codec."
)
@click.option(
    "--sql",
    "with_sql",
    is_flag=True,
    help="Run SQLite's integrity check of each object's database.",
)
@as_json
def check(folder: str, other_codec: bool, with_sql: bool, is_json: bool) -> int:
    """Check that a store is intact.

    Reads all of the store in FOLDER and reports every problem; the exit status is 1 if there is
    any. The check sees a snapshot of one moment. While it lasts, the file of a store in use grows
    by what its program writes.
    """
    with progress("checking"):
        return checking.check(folder, other_codec=other_codec, is_json=is_json, with_sql=with_sql)
