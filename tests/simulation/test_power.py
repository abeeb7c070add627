"""What a power failure within a commit leaves on the disk."""

from __future__ import annotations

from pathlib import Path
from random import Random

import lmdb
import pytest

from durable.testing.simulation.power import (
    DATA_FILE,
    META_PAGES,
    SECTOR,
    Moment,
    cut_within,
    image_at,
)

PAGE = 4_096
SEEDS = range(60)


def pages(*fills: int) -> bytes:
    """A file of two meta pages and others, each full of one byte."""
    return b"".join(bytes([fill]) * PAGE for fill in fills)


BEFORE = pages(1, 1, 2, 2, 2)
AFTER = pages(1, 9, 2, 3, 3, 3, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_torn_commit_leaves_each_sector_as_it_was_or_as_it_was_to_be(seed: int) -> None:
    """The meta pages are those of before, and the file has any size between the two."""
    image = image_at(Moment.PAGES, BEFORE, AFTER, PAGE, Random(seed))

    assert image[: META_PAGES * PAGE] == BEFORE[: META_PAGES * PAGE]
    assert len(BEFORE) <= len(image) <= len(AFTER) - PAGE
    for at in range(0, len(image), SECTOR):
        sector = image[at : at + SECTOR]
        assert sector in (BEFORE[at : at + SECTOR] or bytes(SECTOR), AFTER[at : at + SECTOR])


def test_torn_commits_are_torn_in_many_ways() -> None:
    """Nothing of it, all but the meta page, whole pages, parts of pages; longer files and not."""
    images = {image_at(Moment.PAGES, BEFORE, AFTER, PAGE, Random(seed)) for seed in SEEDS}

    assert BEFORE in images
    assert BEFORE[: 2 * PAGE] + AFTER[2 * PAGE : -PAGE] in images
    assert len({len(image) for image in images}) > 5
    assert len(images) > 30


def test_a_file_is_lengthened_behind_the_commit() -> None:
    """A page at the end that was given out, and not used, is not written by LMDB."""
    done = image_at(Moment.META, BEFORE, AFTER, PAGE, Random(0))

    assert done == AFTER[:-PAGE]
    assert image_at(Moment.LENGTHENED, BEFORE, AFTER, PAGE, Random(0)) == AFTER
    assert (
        image_at(Moment.SYNCED, BEFORE, AFTER, PAGE, Random(0))
        == BEFORE[: 2 * PAGE] + done[2 * PAGE :]
    )


@pytest.mark.parametrize("seed", range(20))
def test_lmdb_has_all_of_a_commit_or_none(tmp_path: Path, seed: int) -> None:
    """What is assumed of it, tried without the store: free pages are used again, the file grows."""
    folder, target, chance = tmp_path / "store", tmp_path / "after", Random(seed)
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 24) as environment:

        def put(round_: int) -> None:
            with environment.begin(write=True) as txn:
                for number in range(chance.randrange(1, 60)):
                    txn.put(b"%d" % number, b"%d" % round_ * chance.randrange(1, 900))
                txn.put(b"round", b"%d" % round_)

        for round_ in range(5):
            put(round_)
        moment = cut_within(lambda: put(5), folder, target, environment.stat()["psize"], chance)

    assert (target / DATA_FILE).exists()
    is_in = moment in {Moment.META, Moment.LENGTHENED}
    with lmdb.open(str(target), map_size=1 << 24) as environment, environment.begin() as txn:
        assert txn.get(b"round") == (b"5" if is_in else b"4")
        assert len(list(txn.cursor())) == txn.stat()["entries"]
