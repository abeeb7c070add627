"""The measures of a store's file: counted by LMDB itself, whatever the size of the store."""

from __future__ import annotations

import os
from typing import Any

from durable._engine.measures import Measures

from .folder import DATA_FILE
from .write_transaction import Databases


def measure(txn: Any, databases: Databases, handle: Any, path: str) -> Measures:
    """Within a transaction of the LMDB environment *handle*, in the folder *path*."""
    info = handle.info()
    named = [
        txn.stat(database)
        for database in (
            databases.meta, databases.classes, databases.objects,
            databases.records, databases.alarms, databases.garbage,
        )
    ]  # fmt: skip
    pages = info["last_pgno"] + 1
    used = 2 + sum(_pages(stat) for stat in [handle.stat(), *named])
    return Measures(
        file_size=os.path.getsize(os.path.join(path, DATA_FILE)),
        map_size=info["map_size"],
        page_size=handle.stat()["psize"],
        pages=pages,
        free_pages=max(0, pages - used),
        last_commit=info["last_txnid"],
        readers=info["num_readers"],
        readers_max=info["max_readers"],
        classes=named[1]["entries"],
        objects=named[2]["entries"],
        records=named[3]["entries"],
        alarms=named[4]["entries"],
        garbage=named[5]["entries"],
    )


def _pages(stat: dict[str, int]) -> int:
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
