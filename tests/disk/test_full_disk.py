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

from durable._lmdb.check import check
from durable._model.errors import StoreFull

from .kit import VALUE, batch_of, open_store, place_of, stored

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
    place = place_of(store)
    value = b"\x91" + bytes(100_000)
    expected: dict[str, bytes] = {}
    error: StoreFull | None = None
    while error is None:
        key = f"{len(expected)}"
        try:
            store.commit([batch_of(store, place, {key: value})])
            expected[key] = value
        except StoreFull as full:
            error = full

    assert "the disk has no room for the store" in str(error)
    assert len(expected) > 10
    assert stored(store, place) == expected
    assert check(store) == []
    store.close()
    assert check(small_disk / "store") == []

    (small_disk / "store" / "filler").touch()
    store = open_store(small_disk / "store")
    place = place_of(store)
    assert stored(store, place) == expected
    store.commit([batch_of(store, place, dict.fromkeys(list(expected)[:10]))])
    store.commit([batch_of(store, place, {"new": VALUE})])
    assert stored(store, place)["new"] == VALUE
    store.close()
    assert check(small_disk / "store") == []


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
from tests.disk.kit import batch_of, open_store, place_of
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
