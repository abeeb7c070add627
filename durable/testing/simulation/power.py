"""Power failures: what is on the disk when the power comes back.

Assumed of LMDB: a commit writes its pages into the file, all of them new or free in the state
before; syncs the file; then writes one of the two meta pages, which makes them the state; and syncs
again. Assumed of the disk: a sector of 512 bytes is written completely or not at all, and what was
synced stays. Nothing is assumed of the order in which sectors reach the disk between two syncs, nor
of when the file becomes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from random import Random

from durable._lmdb.journal.segments import NAMES as JOURNAL_FILES

Files = dict[str, bytes]
"""What is in each file of a store."""

SECTOR = 512
META_PAGES = 2
DATA_FILE = "data.mdb"


class Moment(Enum):
    """Where in a commit the power fails."""

    PAGES = "while its pages are written"
    SYNCED = "before its meta page is written"
    META = "after its meta page is written"
    LENGTHENED = "when all is done"


def image_at(moment: Moment, before: bytes, after: bytes, page_size: int, chance: Random) -> bytes:
    """The contents of the disk at a moment of the commit that made *after* of *before*."""
    if moment is Moment.LENGTHENED:
        return after
    written = _without_unwritten_end(after, len(before), page_size)
    if moment is Moment.META:
        return written
    metas = before[: META_PAGES * page_size]
    if moment is Moment.SYNCED:
        return metas + written[len(metas) :]
    return metas + _torn(before, written, page_size, chance)[len(metas) :]


def _without_unwritten_end(after: bytes, size_before: int, page_size: int) -> bytes:
    """After the commit a step of its own makes the file as long as LMDB takes it to be: the last
    pages may be unused, and are then not written. A page that was written has its number in it."""
    size = len(after)
    while size > size_before and not any(after[size - page_size : size]):
        size -= page_size
    return after[:size]


def _torn(before: bytes, written: bytes, page_size: int, chance: Random) -> bytes:
    """Some pages of *written* in *before*, some of them with some of their sectors."""
    size = len(before)
    if len(written) > size:
        ends = [size, len(written), chance.randrange(size, len(written), SECTOR)]
        size = max(chance.choice(ends), size)
    image = bytearray(before.ljust(size, b"\0"))
    how_many = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    for page in range(META_PAGES * page_size, len(written), page_size):
        if written[page : page + page_size] == before[page : page + page_size]:
            continue
        if chance.random() >= how_many:
            continue
        is_complete = chance.random() < 0.5
        for sector in range(page, page + page_size, SECTOR):
            if is_complete or chance.random() < 0.5:
                image[sector : sector + SECTOR] = written[sector : sector + SECTOR]
    # Sectors behind the end that the file has come to are not there.
    return bytes(image[:size])


def cut(folder: Path, target: Path) -> None:
    """The power fails between two commits: *target* has what is on the disk of *folder* now."""
    put(files_in(folder), target)


def files_in(folder: Path) -> Files:
    """What is on the disk of *folder*: its data file, and those of a journal."""
    names = (DATA_FILE, *JOURNAL_FILES)
    return {name: file.read_bytes() for name in names if (file := folder / name).exists()}


def put(files: Files, target: Path) -> None:
    """*target*, which is made, has *files*."""
    target.mkdir()
    for name, content in files.items():
        (target / name).write_bytes(content)


def cut_within(
    commit: Callable[[], None], folder: Path, target: Path, page_size: int, chance: Random
) -> Moment | None:
    """The power fails within *commit*: *target* has what is then on the disk. Returns the moment of
    the failure; None if there was nothing to commit."""
    before = (folder / DATA_FILE).read_bytes()
    commit()
    after = (folder / DATA_FILE).read_bytes()
    # Most often where the disk has the most to choose from.
    moment = chance.choice([Moment.PAGES, Moment.PAGES, *Moment])
    target.mkdir()
    (target / DATA_FILE).write_bytes(image_at(moment, before, after, page_size, chance))
    return moment if before != after else None
