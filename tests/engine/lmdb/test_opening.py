"""Opening: who owns a folder, and what is no store. A refused open changes nothing."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from durable._lmdb import layout
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.lmdb_files import MAP_SIZE_MIN
from durable._model.errors import DurableError, FormatTooNew, StoreDamaged, StoreInUse, WrongLoop

from ..kit import VALUE, Clock, batch_of, open_store, place_of, scan, stored

ROOT = Path(__file__).resolve().parents[2]
PAGE = os.sysconf("SC_PAGE_SIZE")

CHILD = """
import sys, os, time
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
environment = Environment.open(sys.argv[1], clock=SystemClock())
print("open", flush=True)
sys.stdin.read()
"""


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below *folder*, to see whether it was changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def without_lock(found: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {name: raw for name, raw in found.items() if name != "lock.mdb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store with one object in it."""
    environment = open_store(tmp_path / "store")
    puts = {f"{n}": b"\x91" + bytes(100) for n in range(2_000)}
    environment.commit([batch_of(environment, place_of(environment), puts)])
    environment.close()
    return tmp_path / "store"


@pytest.fixture
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    """A new store needs no preparation."""
    environment = open_store(tmp_path / "a" / "b")
    assert check(environment) == []
    environment.close()

    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["data.mdb", "lock.mdb", "owner"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    """So will one with hidden files, or an empty data file of an open that died."""
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "data.mdb").touch()
    open_store(tmp_path).close()

    assert check(tmp_path) == []


def test_an_environment_with_nothing_in_it_will_do(tmp_path: Path) -> None:
    """An open that died between making the file and filling it has harmed nothing."""
    lmdb.open(str(tmp_path)).close()
    with pytest.raises(FileNotFoundError, match="no store in this folder"):
        check(tmp_path)
    open_store(tmp_path).close()

    assert check(tmp_path) == []


def test_a_second_open_of_the_process_is_told_the_pid(folder: Path) -> None:
    """A store has one owner, within a process too; a close makes room."""
    environment = open_store(folder)
    with pytest.raises(StoreInUse, match=f"in use by process {os.getpid()}") as caught:
        open_store(folder)

    assert caught.value.pid == os.getpid()
    assert stored(environment, place_of(environment))  # the first one goes on
    environment.close()
    open_store(folder).close()


def test_a_second_process_is_told_the_pid(folder: Path, owner: subprocess.Popen[str]) -> None:
    """Nothing is changed for the owner by an open that is refused."""
    before = contents(folder)
    with pytest.raises(StoreInUse) as caught:
        open_store(folder)

    assert caught.value.pid == owner.pid
    assert contents(folder) == before


def test_a_killed_owner_leaves_nothing_to_clean_up(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    """The lock goes with its process."""
    owner.send_signal(signal.SIGKILL)
    owner.wait()

    environment = open_store(folder)
    assert (folder / "owner").read_text() == f"{os.getpid()}\n"
    environment.close()


def test_a_store_can_be_looked_at_beside_its_owner(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    """Reading needs nobody to stop."""
    assert check(folder) == []
    environment = Environment.open_to_read(folder, clock=Clock())
    assert [record.name for record in environment.classes()] == ["Counter"]
    assert len(environment.objects(1, count_max=5)) == 1
    environment.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_cannot_use_the_store(folder: Path) -> None:
    """Every use is a clear error, and the parent's store is none the worse."""
    environment = open_store(folder)
    handle = place_of(environment)
    environment.in_line.get(handle.keyspace, "1")
    batch = batch_of(environment, handle, {"child": VALUE})

    def in_child() -> int:
        calls = (
            lambda: environment.in_line.get(handle.keyspace, "1"),
            lambda: list(scan(environment, handle.keyspace)),
            lambda: environment.find(1, bytes(16)),
            lambda: environment.commit([batch]),
            environment.classes,
        )
        refused = 0
        for call in calls:
            try:
                call()
            except WrongLoop:
                refused += 1
        environment.close()
        return 0 if refused == len(calls) else 1

    assert _status_of(in_child) == 0
    environment.commit([batch_of(environment, handle, {"parent": VALUE})])
    assert "child" not in stored(environment, handle)
    with pytest.raises(StoreInUse):
        open_store(folder)
    environment.close()


FORKING = """
import os, sys
from pathlib import Path
from tests.engine.kit import VALUE, batch_of, open_store, place_of, stored
environment = open_store(Path(sys.argv[1]))
place = place_of(environment)
for n in range(3):
    stored(environment, place)
    if n:
        environment.refresh()
    pid = os.fork()
    if pid == 0:
        if n == 2:
            environment.close()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    environment.commit([batch_of(environment, place, {f"after {n}": VALUE})])
    assert f"after {n}" in stored(environment, place)
environment.close()
"""


def test_a_forked_child_that_exits_harms_nothing(folder: Path) -> None:
    """What the child cleans up at its exit is not its parent's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert check(folder) == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(folder: Path) -> None:
    """A child that outlives its parent's store is not its owner."""
    environment = open_store(folder)
    ready, go_on = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        environment.close()
        open_store(folder).close()  # the child is still there
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(pid, 0)


def test_a_program_that_is_started_does_not_keep_the_lock(folder: Path) -> None:
    """Files of the store are not inherited."""
    environment = open_store(folder)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as process:
        environment.close()
        open_store(folder).close()
        process.kill()


def _status_of(fn) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = fn()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# What is no store


def refused(folder: Path, kind: type[BaseException], match: str) -> None:
    """An open and a look raise; the message names the path; nothing was changed."""
    before = contents(folder) if folder.is_dir() else None
    existed = folder.exists()
    with pytest.raises(kind, match=match) as caught:
        open_store(folder)

    assert str(folder) in str(caught.value)
    assert folder.exists() == existed
    assert before is None or contents(folder) == before
    with pytest.raises((DurableError, OSError)):
        check(folder)
    # LMDB notes its readers in the lock file.
    assert before is None or without_lock(contents(folder)) == without_lock(before)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")

    refused(tmp_path / "file", NotADirectoryError, "must be a folder")


def test_a_folder_below_a_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")

    refused(tmp_path / "file" / "store", OSError, "cannot be made")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("hello")

    refused(tmp_path, StoreDamaged, "holds no store, and is not empty: 'thesis.txt'")


@pytest.mark.parametrize("size", [1, 100, PAGE, PAGE + 50, 100_000])
def test_random_bytes_are_no_store(tmp_path: Path, size: int) -> None:
    (tmp_path / "data.mdb").write_bytes(b"\x5a" * size)

    refused(tmp_path, StoreDamaged, "damaged, or not the file of a store")


@pytest.mark.parametrize("kept", [1 / 2, 9 / 10, 2 * 4_096, 3 * 4_096, 4_096, 20])
def test_a_truncated_file_is_damaged(folder: Path, kept: float) -> None:
    """The process is not killed by a page that is not there."""
    file = folder / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, int(size * kept) if kept < 1 else int(kept))

    refused(folder, StoreDamaged, "cut off|ends after")


def test_zeroed_pages_are_damaged(folder: Path) -> None:
    """A file whose beginning alone is right is not let near LMDB."""
    file = folder / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, 2 * PAGE)
    os.truncate(file, size)

    refused(folder, StoreDamaged, "damaged")


def test_a_file_that_lacks_unused_pages_only_is_whole(folder: Path) -> None:
    """LMDB need not write the last pages of a transaction; what counts are those in use."""
    file = folder / "data.mdb"
    raw = bytearray(file.read_bytes())
    for page in (0, 1):  # the number of the last page, in both meta pages
        at = page * PAGE + 136
        raw[at : at + 8] = struct.pack("=Q", struct.unpack_from("=Q", raw, at)[0] + 1)
    file.write_bytes(raw[: file.stat().st_size])

    assert check(folder) == []
    environment = open_store(folder)
    environment.commit([batch_of(environment, place_of(environment), {"new": VALUE})])
    environment.close()
    assert check(folder) == []


def test_a_later_format_is_too_new(folder: Path) -> None:
    _write_meta(folder, layout.write_format(layout.FORMAT + 1))

    refused(folder, FormatTooNew, f"has format {layout.FORMAT + 1}.*reads up to {layout.FORMAT}")


def test_a_format_that_cannot_be_is_damaged(folder: Path) -> None:
    _write_meta(folder, b"something")

    refused(folder, StoreDamaged, "not a store of durable")


def test_another_programs_environment_is_no_store(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as handle:
        handle.open_db(b"theirs")

    refused(tmp_path, StoreDamaged, "LMDB environment, but not a store of durable")


def test_a_store_that_lacks_a_database_is_damaged(folder: Path) -> None:
    with lmdb.open(str(folder), max_dbs=8) as handle:
        database = handle.open_db(b"alarms")
        with handle.begin(write=True) as txn:
            txn.drop(database)

    with pytest.raises(StoreDamaged, match="lacks a database"):
        open_store(folder)


def _write_meta(folder: Path, raw: bytes) -> None:
    with lmdb.open(str(folder), max_dbs=8) as handle:
        meta = handle.open_db(layout.META)
        with handle.begin(write=True, db=meta) as txn:
            txn.put(layout.META_FORMAT, raw)


# Behind the page header, the magic number and the version, the address: the map size; then, behind
# what there is to say of two trees, the last page.
@pytest.mark.parametrize(("what", "place"), [("map size", 32), ("size up to the last page", 136)])
@pytest.mark.parametrize("number", [1 << 47, (1 << 64) - 1])
def test_an_absurd_size_is_damage(folder: Path, what: str, place: int, number: int) -> None:
    """It is not taken for a lack of memory or of rights."""
    raw = bytearray((folder / "data.mdb").read_bytes())
    for page in (0, PAGE):
        struct.pack_into("=Q", raw, page + place, number)
    (folder / "data.mdb").write_bytes(raw)

    refused(folder, StoreDamaged, f"its {what} of [0-9,]+ bytes is impossible")
    with pytest.raises(StoreDamaged, match="is impossible"):
        Environment.open_to_read(folder, clock=Clock())


@pytest.mark.skipif(sys.platform != "linux", reason="how much is used, Linux says")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lack_of_address_space_is_said(folder: Path) -> None:
    """By what the process has too little of; the store is as it was."""
    before = contents(folder)

    def in_child() -> int:
        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * PAGE
        resource.setrlimit(resource.RLIMIT_AS, (used + MAP_SIZE_MIN // 2,) * 2)
        try:
            open_store(folder)
        except OSError as error:
            return 0 if error.errno == errno.ENOMEM and "the process's limit" in str(error) else 1
        return 2

    assert _status_of(in_child) == 0
    assert contents(folder)["data.mdb"] == before["data.mdb"]


@pytest.mark.parametrize("what", ["folder", "file", "new"])
def test_without_the_rights_it_is_a_permission_error(folder: Path, what: str) -> None:
    """A read-only folder or file is refused, by an error that names it."""
    target = {"folder": folder, "file": folder / "data.mdb", "new": folder}[what]
    path = folder / "new" if what == "new" else folder
    if what == "new":
        os.chmod(folder, 0o555)
    else:
        os.chmod(target, 0o555 if what == "folder" else 0o444)
        for file in folder.iterdir():
            os.chmod(file, 0o444)
    before = contents(folder)

    def in_child() -> int:
        if os.getuid() == 0:
            for parent in folder.parents:
                if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                    os.chmod(parent, 0o755)
            os.setuid(65_534)
        try:
            open_store(path)
        except PermissionError as error:
            return 0 if str(folder) in str(error) and error.errno == errno.EACCES else 1
        return 2

    try:
        assert _status_of(in_child) == 0
        assert contents(folder) == before
    finally:
        os.chmod(folder, 0o755)
