"""The command that lists the processes of a store: `peers`."""

from __future__ import annotations

import attrs
import click

from durable import operate
from durable._model.database_url import is_url

from .peers_option import of_peers, peers_in
from .printing import as_json, print_json, print_table


@click.command()
@click.argument("folder")
@of_peers
@as_json
def peers(folder: str, config: str | None, environment: str | None, is_json: bool) -> None:
    """List the processes that share a store.

    Shows for each process that has the store in FOLDER, a folder or a URL, open its pid, state,
    number of shards and version of durable, for a URL its address, too; and how many objects it has
    in memory, if it has opened the store with operate=True and is on this machine, or can be
    reached by the [peers] of --config.
    """
    found = operate.peers(folder, peers=peers_in(config, environment))
    is_of_machines = is_url(folder)
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
            *([each.address or "-"] if is_of_machines else []),
        )
        for each in found
    ]
    columns = ["pid", "state", "shards", "live objects", "version"]
    columns += ["address"] if is_of_machines else []
    print_table(columns, [rows], nothing="no processes share the store")
