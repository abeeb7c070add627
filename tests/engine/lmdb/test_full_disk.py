"""A full disk: StoreFull, nothing confirmed that is not stored, and on it goes with room again."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from durable._engine.committer import Committer
from durable._lmdb.check import check
from durable._model.errors import StoreFull

from ..kit import VALUE, Loop, Outcomes, batch_of, open_store, place_of, stored

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where it can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # even if a test failed in it


def test_a_disk_that_fills_up(small_disk: Path) -> None:
    """What was committed stays, what was refused is not there, and deletes make room."""
    store = open_store(small_disk / "store")
    handle = place_of(store)
    value = b"\x91" + bytes(100_000)
    expected: dict[str, bytes] = {}
    error: StoreFull | None = None
    while error is None:
        key = f"{len(expected)}"
        try:
            store.commit([batch_of(store, handle, {key: value})])
            expected[key] = value
        except StoreFull as full:
            error = full

    assert "the disk has no room for the store" in str(error)
    assert len(expected) > 10
    assert stored(store, handle) == expected
    assert check(store) == []
    store.close()
    assert check(small_disk / "store") == []

    (small_disk / "store" / "filler").touch()
    store = open_store(small_disk / "store")
    handle = place_of(store)
    assert stored(store, handle) == expected
    store.commit([batch_of(store, handle, dict.fromkeys(list(expected)[:10]))])
    store.commit([batch_of(store, handle, {"new": VALUE})])
    assert stored(store, handle)["new"] == VALUE
    store.close()
    assert check(small_disk / "store") == []


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(512))


@pytest.mark.parametrize("size", [10, 300, 3_000, 100_000])
def test_what_only_deletes_succeeds_on_a_full_disk(small_disk: Path, size: int) -> None:
    """Without a byte of room left: some was kept for it, which lasts until something is free."""
    store = open_store(small_disk / "store")
    handle = place_of(store)
    value = b"\x91" + bytes(size)
    count = 0
    with suppress(StoreFull):
        while True:
            store.commit([batch_of(store, handle, {f"{count} {n}": value for n in range(10)})])
            count += 1
    fill(small_disk)

    for n in range(min(count, 30)):
        store.commit([batch_of(store, handle, {f"{n} {key}": None for key in range(10)})])
        store.refresh()  # as the loop does: who reads old pages keeps them
    store.commit([batch_of(store, handle, {"new": VALUE})])
    assert not any(key.startswith("0 ") for key in stored(store, handle))
    store.commit([batch_of(store, handle, clears=True)])
    while store.has_garbage:
        store.collect_garbage()
    store.close()
    assert check(small_disk / "store") == []


def test_deletes_do_not_share_the_fate_of_writes_beside_them(small_disk: Path) -> None:
    """A group that the disk has no room for is committed without the batches that need it. One that
    follows a lost batch of its object is lost too."""
    store = open_store(small_disk / "store")
    one, other = place_of(store, "one"), place_of(store, "other")
    store.commit([batch_of(store, one, {"x": VALUE}), batch_of(store, other, {"x": VALUE})])
    fill(small_disk)
    outcomes, loop = Outcomes(), Loop()
    committer = Committer(store, loop.call_soon_threadsafe)
    large = b"\x91" + bytes(1_000_000)
    for label, place, puts in [
        ("a delete", one, {"x": None}),
        ("a write", other, {"large": large}),
        ("a delete behind it", other, {"x": None}),
    ]:
        committer.submit(batch_of(store, place, puts, label=label, outcomes=outcomes))
    committer.start()
    committer.stop()
    loop.run()

    assert outcomes.durable == ["a delete"]
    assert outcomes.failed == ["a write", "a delete behind it"]
    assert stored(store, place_of(store, "one")) == {}
    assert stored(store, place_of(store, "other")) == {"x": VALUE}
    store.close()


def test_a_disk_with_room_has_no_file_that_keeps_some(tmp_path: Path) -> None:
    """It is made when the disk gets full."""
    store = open_store(tmp_path / "store")
    store.commit([batch_of(store, place_of(store), {"x": VALUE})])

    assert not (tmp_path / "store" / ".spare").exists()
    store.close()


def test_a_store_cannot_begin_on_a_full_disk(small_disk: Path) -> None:
    """A refused open leaves nothing behind."""
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4_096))
    with pytest.raises((StoreFull, OSError)) as caught:
        open_store(small_disk / "store")

    assert str(small_disk) in str(caught.value)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


CHILD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from durable._model.errors import StoreFull
from tests.engine.kit import batch_of, open_store, place_of
store = open_store(Path(sys.argv[1]))
place = place_of(store)
count = 0
try:
    for n in range(1_000):
        store.commit([batch_of(store, place, {{f"{{n}}": b"\\x91" + bytes(100_000)}})])
        count += 1
except StoreFull as error:
    print(count, flush=True)
"""


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_file_at_its_limit_of_size(tmp_path: Path) -> None:
    """A limit on the size of files, as a quota, is a full disk too."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "store")],
        preexec_fn=_limit,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    count = int(done.stdout)
    assert count > 10
    assert check(tmp_path / "store") == []
    store = open_store(tmp_path / "store")
    assert len(stored(store, place_of(store))) == count
    store.close()
