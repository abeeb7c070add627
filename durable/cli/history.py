"""`durable history` and `durable restore`: what an object was, and how to go back."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

import anyio
import click

from durable import operate
from durable.operate.restoring import fork_order, restore_order

from .changing import as_code, obey_here, runs_here
from .plain_text import say
from .printing import as_json, moment, print_json, print_table, size


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.option("--limit", type=click.IntRange(min=1), help="Print at most this many chapters.")
@click.option("--since", metavar="BOOKMARK", help="Print what has changed since this bookmark.")
@as_json
def history(
    folder: str, cls: str, name_or_id: str, limit: int | None, since: str | None, is_json: bool
) -> None:
    """List the bookmarks that one object can go back to.

    Prints the chapters of its history that have changed something, the latest first. Going back to
    the bookmark of a chapter undoes this chapter and all later ones. No object is woken, and the
    program that has the store goes on.
    """
    if since is not None:
        _print_changes(operate.changes_between(folder, cls, name_or_id, since), limit, is_json)
        return
    found = operate.history(folder, cls, name_or_id)
    if is_json:
        print_json({
            "history": {
                "oldest": found.oldest, "begins": found.begins.isoformat(),
                "records": found.records, "bytes": found.size,
            }
        })  # fmt: skip
        for each in islice(found.chapters, limit):
            print_json({
                "bookmark": each.bookmark, "began": each.began.isoformat(), "keys": each.keys,
                "pages": each.pages, "others": each.others, "alarm": each.alarm,
                "cleared": each.cleared,
            })  # fmt: skip
        return
    rows = [
        (
            each.bookmark,
            moment(each.began),
            f"{each.keys:,}",
            f"{each.pages:,}",
            _more(each),
        )
        for each in islice(found.chapters, limit)
    ]
    columns = ("bookmark", "began", "keys", "pages", "also")
    print_table(columns, iter([rows]), nothing="nothing has changed")
    say(f"oldest bookmark {found.oldest}, of {moment(found.begins)}; takes {size(found.size)}")


def _more(chapter: operate.Chapter) -> str:
    more = [
        "everything deleted" if chapter.cleared else "",
        "alarm" if chapter.alarm else "",
        f"{chapter.others:,} timers and more" if chapter.others else "",
    ]
    return ", ".join(filter(None, more))


def _print_changes(changes: list[operate.Changed], limit: int | None, is_json: bool) -> None:
    for each in islice(changes, limit):
        before, after = _shown(each.before), _shown(each.after)
        if is_json:
            print_json({"kind": each.kind, "name": each.name, "before": before, "after": after})
        elif each.kind == "database":
            say(f"{each.before:,} pages of the database")
        else:
            say(f"{each.kind} {each.name}: {before or 'nothing'} -> {after or 'nothing'}")


def _shown(value: Any) -> Any:
    """A list with the value for JSON; None: there was none."""
    if value is operate.MISSING:
        return None
    if isinstance(value, datetime):
        return [value.isoformat()]
    if isinstance(value, operate.Unreadable):
        return [f"cannot be decoded: {value.why}"]
    try:
        return [operate.to_json(value)]
    except (TypeError, ValueError):
        return [repr(value)]


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.argument("to", metavar="BOOKMARK|TIME")
@click.option("--as", "name", metavar="NAME", help="Make a new object of this name instead.")
@as_code
@as_json
def restore(
    folder: str,
    cls: str,
    name_or_id: str,
    to: str,
    name: str | None,
    app: str | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> None:
    """Restore one object to what it was, or make a new one of that.

    TIME is as 2026-11-29T12:30 is, local unless it has a zone; the object goes back to up to a
    minute earlier. It prints a bookmark that undoes this. The program that has the store carries it
    out: the object is reset and built anew. With --as the object stays as it is, and a new one
    begins as what it was.
    """
    point = _point(to)
    if runs_here(folder, app, config):
        order = (
            restore_order(cls, name_or_id, point)
            if name is None
            else fork_order(cls, name_or_id, point, name)
        )
        undo = anyio.run(obey_here, folder, app, config, environment, order)
    elif name is None:
        undo = operate.restore(folder, cls, name_or_id, point)
    else:
        undo = None
        operate.fork(folder, cls, name_or_id, point, name)
    if is_json:
        print_json({"undo": undo} if name is None else {"made": name})
    elif name is None:
        say(f"the bookmark {undo} undoes this")


def _point(text: str) -> str | datetime:
    """A time, or the text as a bookmark."""
    if "-" not in text:
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r} is neither a bookmark nor a time: {error}") from None
