"""`durable migrate`: print and apply the migrations of a configuration file."""

from __future__ import annotations

import click

from durable._runtime.pending import pending_migrations

from .environment_option import in_environment
from .plain_text import say
from .printing import as_json, print_json, progress


@click.command()
@click.argument("file")
@in_environment
@click.option("--dry-run", is_flag=True, help="Print the changes, and make none.")
@click.option("--yes", is_flag=True, help="Do not ask before a deletion.")
@click.option("--old-tag", help="Continue only if this migration was applied last.")
@as_json
def migrate(
    file: str,
    environment: str | None,
    dry_run: bool,
    yes: bool,
    old_tag: str | None,
    is_json: bool,
) -> int:
    """Apply the pending migrations of a configuration file.

    Prints what FILE would change in its store, then changes it. A deletion asks first.
    """
    pending = pending_migrations(file, environment=environment, old_tag=old_tag)
    if pending.is_empty:
        say(f"the store {pending.path} is up to date", err=is_json)
        return 0
    if is_json:
        for facts in pending.facts():
            print_json(facts)
    else:
        for line in pending.words():
            say(line)
    if dry_run:
        return 0
    if pending.deletes and not yes:
        say("This deletes for good:", err=True)
        for line in pending.deleted():
            say(f"  {line}", err=True)
        if not _confirms():
            say("nothing was changed", err=True)
            return 1
    with progress("freeing records") as show:
        pending.apply(on_freed=show)
    say("done", err=is_json)
    return 0


def _confirms() -> bool:
    """Whether a person answers yes; without a terminal, --yes must be given."""
    try:
        return click.confirm("Go on?", default=False, err=True)
    except click.Abort:
        return False
