"""How fast is a store of many objects listed, exported and imported? Beside it: a cursor's walk.

The plain work walks over the same objects with lmdb's own cursor, unpacks each record and writes it
with `json.dumps`. Memory is what the process owns; pages of the mapped file are not, since the
system may take them away at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import ormsgpack

import durable
from durable import operate
from durable.cli.object_lines import object_lines
from durable.operate.listing import listing

from .harness import RATE, Row, Setting, main
from .stores import built


class Box(durable.DurableObject):
    """Is only looked at."""


async def ask(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    for objects in setting.pick((200,), (10_000, 100_000), (10_000, 100_000, 1_000_000)):
        rows.extend(of_a_store(setting, objects))
    return rows


def of_a_store(setting: Setting, objects: int) -> list[Row]:
    folder = built(setting.new_folder(), Box, objects)
    where = f"of {objects:,}"
    out = setting.new_folder() / "out"

    def rate(work: Callable[[Path, Path], object], store: Path = folder) -> float:
        start = time.perf_counter()
        work(store, out)
        return objects / (time.perf_counter() - start)

    rate(list_all)  # what is loaded once, and the pages of the file
    before = owned_bytes()
    pairs = [(rate(list_all), rate(walk)) for _ in range(setting.pick(2, 7, 3))]
    exported = [rate(export) for _ in range(setting.pick(1, 3, 1))]
    imported = rate(operate.import_file, setting.new_folder() / "store")
    grown = max(1, owned_bytes() - before) / (1 << 20)
    return [
        Row(
            f"objects listed, {where}", RATE, [ours for ours, _ in pairs],
            "cursor and json.dumps", [plain for _, plain in pairs],
        ),
        Row(f"objects exported, {where}", RATE, exported),
        Row(f"objects imported, {where}", RATE, [imported]),
        Row(f"memory that all of this took, {where}", "MiB", [grown]),
    ]  # fmt: skip


def list_all(folder: Path, out: Path) -> None:
    """What `durable ls FOLDER CLASS --json` does."""
    with operate.look(folder) as store, out.open("w", encoding="utf-8") as file:
        for step in listing(store, "Box", weigh=True):
            file.write(object_lines(step))
            file.flush()


def walk(folder: Path, out: Path) -> None:
    environment = lmdb.open(str(folder), readonly=True, lock=False, max_dbs=8, readahead=False)
    database = environment.open_db(b"objects", create=False)
    with environment.begin(db=database) as txn, out.open("w", encoding="utf-8") as file:
        for key, raw in txn.cursor():
            # Between a mark and a checksum.
            file.write(json.dumps([key.hex(), *ormsgpack.unpackb(raw[1:-4])]) + "\n")
    environment.close()


def export(folder: Path, out: Path) -> None:
    with operate.look(folder) as store, out.open("w", encoding="utf-8") as file:
        operate.export(store, file)


def owned_bytes() -> int:
    """Memory that belongs to this process alone, without pages of files."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1_024


if __name__ == "__main__":
    main(__doc__, ask)
