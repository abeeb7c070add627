"""The command that lists the processes of a store: `peers`."""

from __future__ import annotations

import attrs
import click

from durable import operate

from .printing import as_json, print_json, print_table


@click.command()
@click.argument("folder")
@as_json
def peers(folder: str, is_json: bool) -> None:
    """List the processes that share a store.

    Shows for each process that has the store in FOLDER open its pid, state, number of shards and
    version of durable; and how many objects it has in memory, if it has opened the store with
    operate=True.
    """
    found = operate.peers(folder)
    if is_json:
        for each in found:
            print_json(attrs.asdict(each))
        return
    rows = [
        (
            str(each.pid),
            each.state,
            str(each.shards),
            "-" if each.live_objects is None else f"{each.live_objects:,}",
            each.version,
        )
        for each in found
    ]
    columns = ("pid", "state", "shards", "live objects", "version")
    print_table(columns, [rows], nothing="no processes share the store")
