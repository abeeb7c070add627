"""One owner of a folder, whatever is done to the files in it while a program has it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._model.errors import CommitFailed, DurableError, StoreDamaged, StoreInUse

from ..kit import VALUE, Clock, batch_of, open_store, place_of, stored

ROOT = Path(__file__).resolve().parents[2]

SECOND = """
import os, sys
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable._model.errors import StoreInUse
try:
    Environment.open(sys.argv[1], clock=SystemClock())
except StoreInUse as error:
    print(os.getpid(), error.pid, error.is_elsewhere, error)
else:
    print("opened")
"""

OWNER = """
import os, sys
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
environment = Environment.open(sys.argv[1], clock=SystemClock())
print(os.getpid(), flush=True)
sys.stdin.read()
"""

LOOKER = """
import os, sys
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
environment = Environment.open_to_read(sys.argv[1], clock=SystemClock())
print(os.getpid(), len(environment.classes()), flush=True)
"""


def run(program: str, folder: Path, *before: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", program, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    environment = open_store(tmp_path / "store")
    environment.commit([batch_of(environment, place_of(environment), {"first": VALUE})])
    environment.close()
    return tmp_path / "store"


@pytest.fixture
def owned(folder: Path) -> Iterator[Environment]:
    environment = open_store(folder)
    yield environment
    environment.close()


def keep(environment: Environment, key: str) -> None:
    environment.commit([batch_of(environment, place_of(environment), {key: VALUE})])


# A second owner is kept out


@pytest.mark.parametrize("what", ["removed", "replaced", "moved away"])
def test_an_owner_file_that_is_taken_away_lets_nobody_in(
    folder: Path, owned: Environment, what: str
) -> None:
    """A cleaner takes it for a stale lock. The data file is locked too, and the owner puts its file
    back with its next commit."""
    file = folder / "owner"
    if what == "moved away":
        file.rename(folder / "elsewhere")
    else:
        file.unlink()
    if what == "replaced":
        file.write_text("1\n")

    assert f" {os.getpid()} False the store" in run(SECOND, folder)
    keep(owned, "second")
    assert file.read_text() == f"{os.getpid()}\n"
    with pytest.raises(StoreInUse):
        open_store(folder)
    owned.close()
    assert run(SECOND, folder) == "opened\n"
    assert check(folder) == []


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        open_store(tmp_path / "above" / "store").close()
    finally:
        os.umask(before)

    folders = [tmp_path / "above", tmp_path / "above" / "store"]
    assert [oct(path.stat().st_mode & 0o777) for path in folders] == ["0o700"] * 2
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folders[1].iterdir()}
    assert modes == dict.fromkeys(("data.mdb", "lock.mdb", "owner"), "0o600")


LOCK_FOR_READING = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
LOCKS: dict[str, Callable[[int], object]] = {
    "flock, exclusive": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "flock, shared": lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "open file description": lambda fd: fcntl.fcntl(fd, 37, LOCK_FOR_READING),
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are only locks for everybody")
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("names", [("owner",), ("data.mdb",), ("owner", "data.mdb")], ids=str)
def test_who_can_only_read_keeps_nobody_out(
    folder: Path, names: tuple[str, ...], lock: str
) -> None:
    """Whatever can be locked on a file that was opened to read. A second owner is refused still."""
    fds = [os.open(folder / name, os.O_RDONLY) for name in names]
    try:
        for fd in fds:
            LOCKS[lock](fd)
        environment = open_store(folder)
        keep(environment, "second")
        with pytest.raises(StoreInUse) as caught:
            open_store(folder)
        assert caught.value.pid == os.getpid()
        assert " False the store" in run(SECOND, folder)
        keep(environment, "third")
        environment.close()
    finally:
        for fd in fds:
            os.close(fd)
    assert check(folder) == []


@pytest.mark.parametrize("name", ["owner", "lock.mdb", "data.mdb"])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling", "pipe"])
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    """In a stranger's folder it may lead to a file of ours, which would be emptied."""
    mine = tmp_path / "mine"
    mine.write_text("my only copy")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if kind == "symbolic":
        (theirs / name).symlink_to(mine)
    elif kind == "hard":
        (theirs / name).hardlink_to(mine)
    elif kind == "dangling":
        (theirs / name).symlink_to(tmp_path / "made")
    else:
        os.mkfifo(theirs / name)

    with pytest.raises(StoreDamaged, match=name):
        open_store(theirs)
    assert mine.read_text() == "my only copy"
    assert not (tmp_path / "made").exists()
    assert os.listdir(theirs) == [name]


def test_a_folder_may_be_a_link(folder: Path) -> None:
    """What it leads to is the store."""
    link = folder.with_name("link")
    link.symlink_to(folder)
    environment = open_store(link)
    with pytest.raises(StoreInUse):
        open_store(folder)
    keep(environment, "second")
    environment.close()


# What is done to the folder of a program that runs


def _removed(folder: Path) -> None:
    shutil.rmtree(folder)


def _moved(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def _replaced(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("backup"))
    _moved(folder)
    folder.with_name("backup").rename(folder)


def _file_replaced(folder: Path) -> None:
    shutil.copy(folder / "data.mdb", folder / "new")
    (folder / "new").rename(folder / "data.mdb")


def _file_removed(folder: Path) -> None:
    (folder / "data.mdb").unlink()


@pytest.mark.parametrize("change", [_removed, _moved, _replaced, _file_replaced, _file_removed])
def test_a_folder_that_is_not_ours_any_more_is_noticed_by_the_next_commit(
    folder: Path, owned: Environment, change: Callable[[Path], None]
) -> None:
    """Nothing is confirmed that the next start would not find."""
    keep(owned, "second")
    change(folder)

    for _ in range(2):
        with pytest.raises(CommitFailed, match=r"removed, moved or replaced while it was open"):
            keep(owned, "third")
    assert set(stored(owned, place_of(owned))) == {"first", "second"}


def test_a_folder_that_is_put_back_is_ours_again(folder: Path, owned: Environment) -> None:
    """The program need not be started anew."""
    _moved(folder)
    with pytest.raises(CommitFailed):
        keep(owned, "second")
    folder.with_name("moved").rename(folder)

    keep(owned, "third")
    assert set(stored(owned, place_of(owned))) == {"first", "third"}


def test_a_lock_file_that_is_taken_away_is_made_anew(folder: Path, owned: Environment) -> None:
    """From the next commit on, those that look lock what the owner sees."""
    keep(owned, "second")
    (folder / "lock.mdb").unlink()
    keep(owned, "third")

    assert set(stored(owned, place_of(owned))) == {"first", "second", "third"}
    with subprocess.Popen(
        [sys.executable, "-c", LOOKER + "sys.stdin.read()", str(folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as looker:  # fmt: skip
        assert looker.stdout is not None
        assert looker.stdout.readline() == f"{looker.pid} 1\n"
        assert str(looker.pid) in owned.handle.env.readers()
        looker.kill()


def test_a_looker_whose_lock_file_is_taken_away_reads_no_more(folder: Path) -> None:
    """The owner does not see its lock, and would write over what is read."""
    environment = Environment.open_to_read(folder, clock=Clock())
    assert len(environment.classes()) == 1
    environment.refresh()
    (folder / "lock.mdb").unlink()

    with pytest.raises(DurableError, match="look again"):
        environment.classes()
    environment.close()


# Readers


def test_readers_that_were_killed_are_cleared_and_the_read_is_tried_again(folder: Path) -> None:
    """Their slots are used up; nobody who reads is told of it."""
    program = """
import os, signal, sys
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
environment = Environment.open_to_read(sys.argv[1], clock=SystemClock())
held = []
try:
    while True:
        held.append(environment.handle.env.begin())
except Exception as error:
    print(type(error).__name__, len(held), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = open_store(folder)
    handle = place_of(environment)
    environment.refresh()
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL
        assert done.stdout.startswith("ReadersFullError")
        assert set(stored(environment, handle)) == {"first"}
        environment.refresh()
    environment.close()
    assert run(LOOKER, folder).endswith(" 1\n")


def test_each_look_clears_those_that_were_killed(folder: Path) -> None:
    """However many they are, beside a program that does nothing."""
    killed = LOOKER + "txn = environment.handle.env.begin(); os.kill(os.getpid(), 9)"
    environment = open_store(folder)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", killed, str(folder)], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL
    assert run(LOOKER, folder).endswith(" 1\n")

    assert environment.handle.env.reader_check() == 0
    environment.close()


# Pids of containers


def _can_have_namespaces() -> bool:
    try:
        made = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
        return subprocess.run(made, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.skipif(not _can_have_namespaces(), reason="no pid namespace can be had here")
def test_two_containers_may_have_the_same_pid(folder: Path) -> None:
    """StoreInUse says where the owner is, and those that look do so none the less."""
    with subprocess.Popen(
        [*CONTAINER, sys.executable, "-c", OWNER, str(folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdout.readline() == "1\n"
        said = run(SECOND, folder, *CONTAINER)
        assert said.startswith("1 1 True")
        assert "process 1 of another container" in said
        assert "which is this one" not in said
        assert " 1 True " in run(SECOND, folder)
        assert run(LOOKER, folder, *CONTAINER) == "1 1\n"
        assert run(LOOKER, folder).endswith(" 1\n")
        owner.kill()


# Where the lock cannot be had


@pytest.fixture
def read_only(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """The folder, mounted once more so that it can only be read."""
    mount = tmp_path / "mount"
    mount.mkdir()
    bind = ["mount", "--bind", str(folder), str(mount)]
    try:
        done = subprocess.run(bind, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_a_read_only_folder_is_looked_at_as_a_copy(read_only: Path, folder: Path) -> None:
    """Nothing is left of it; what is written later is not seen in it."""
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob("durable-look-*"))
    environment = Environment.open_to_read(read_only, clock=Clock())
    owner = open_store(folder)
    keep(owner, "second")

    assert set(stored(environment, place_of(environment))) == {"first"}
    assert check(environment) == []
    assert environment.path == str(read_only)
    assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob("durable-look-*")) == before
    environment.close()
    owner.close()


def test_a_copy_that_others_write_into_is_refused(
    read_only: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be of several moments; the error says what to do."""
    owner = open_store(folder)
    copyfile = shutil.copyfile

    def copy_slowly(source: str, target: str) -> None:
        keep(owner, "second")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_slowly)
    with pytest.raises(PermissionError, match=r"DURABLE_OPERATE=1.*`durable copy`") as caught:
        Environment.open_to_read(read_only, clock=Clock())

    assert caught.value.filename == str(read_only)
    owner.close()
