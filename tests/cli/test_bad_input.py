"""Bad input, a disk that is full, a reader that goes away, Ctrl-C: a clear line on stderr, a status
above zero, no traceback, and nothing changed.

What is said of a folder that is no store, and of commands that are not understood, is in
`test_commands.py`; what is wrong inside of a file to import is in `tests/operate`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import lmdb
import pytest

import durable
from durable import operate
from durable.cli import main
from tests import postgres

pytest.importorskip("click")
pytest.importorskip("rich")

pytestmark = pytest.mark.backends("asyncio")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
OBJECTS = 1_500  # more than a pipe takes in


class Counter(durable.DurableObject):
    async def put(self, key: str, value: object) -> None:
        self.ctx.storage.put(key, value)


class Other(Counter):
    """Has objects too."""


def fill(folder: Path, count: int) -> Path:
    async def write() -> None:
        bindings = {"COUNTERS": Counter, "OTHERS": Other}
        async with durable.open(folder, bindings=bindings) as runtime:
            await runtime.env.OTHERS.get_by_name("a").put("x", 1)
            calls = [
                runtime.env.COUNTERS.get_by_name(f"object {number}").put("x", "y" * 50)
                for number in range(count)
            ]
            for call in calls:
                await call

    anyio.run(write)
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with more to say than a pipe takes in; nothing here may change it."""
    return fill(tmp_path_factory.mktemp("large") / "store", OBJECTS)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store, exports of it that are whole and that are not, and other things."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "store", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "mine").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert main(["export", "store", "-o", "good.jsonl"]) == 0
    whole = (tmp_path / "good.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[: whole.rindex(b'{"end"')])
    (tmp_path / "binary.jsonl").write_bytes(whole + b"\xff\xfe")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, but for the lock that every reader of a store writes to."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "lock.mdb"
    }


ID_OF_OTHER = "the id of an object of the class Other"

REFUSED: list[tuple[str, list[str]]] = [
    ("there is no class 'Nope'", ["ls", "store", "Nope"]),
    ("there is no class 'Nope'", ["alarms", "store", "Nope"]),
    ("there is no class 'Nope'", ["show", "store", "Nope", "a"]),
    ("there is no class 'Nope'", ["export", "store", "Nope"]),
    ("no object 'a' of the class Counter", ["show", "store", "Counter", "a"]),
    ("no object 'a' of the class Counter", ["export", "store", "Counter", "a"]),
    ("no object ''", ["show", "store", "Counter", ""]),
    ("another class", ["show", "store", "Counter", ID_OF_OTHER]),
    ("another class", ["export", "store", "Counter", ID_OF_OTHER, "-o", "new"]),
    ("valid Unicode", ["show", "store", "Counter", "\udcff"]),
    ("null", ["ls", "a\0b"]),
    ("null", ["import", "new", "a\0b"]),
    ("exists already; --force", ["export", "store", "-o", "file"]),
    ("a folder is there", ["export", "store", "-o", "empty", "--force"]),
    ("its folder does not exist", ["export", "store", "-o", "nowhere/new"]),
    ("a copy is made only where nothing is", ["copy", "store", "store"]),
    ("a copy is made only where nothing is", ["copy", "store", "stuff"]),
    ("a copy is made only where nothing is", ["copy", "store", "file"]),
    ("one that is there", ["copy", "store", "nowhere/new"]),
    ("No such file", ["import", "new", "nothing"]),
    ("Is a directory", ["import", "new", "empty"]),
    ("is not JSON", ["import", "new", "file"]),
    ("cut off", ["import", "new", "cut.jsonl"]),
    ("not valid UTF-8", ["import", "new", "binary.jsonl"]),
    ("cut off", ["import", "store", "cut.jsonl", "--existing", "replace"]),
    ("must be a folder", ["import", "file", "good.jsonl"]),
    ("holds no store", ["import", "stuff", "good.jsonl"]),
    ("in the store already", ["import", "store", "good.jsonl"]),
    ("cannot be the name of a class", ["import", "new", "good.jsonl", "--class", "a b"]),
    ("given to one object", ["import", "new", "good.jsonl", "--name", "b"]),
    ("No such file", ["migrate", "nothing.toml"]),
    ("Is a directory", ["migrate", "empty"]),
    ("not valid TOML", ["migrate", "good.jsonl"]),
    ("must be a folder", ["demo", "file"]),
    ("holds no store", ["demo", "stuff"]),
    ("no program can be watched", ["tail", "store"]),
    ("no program can be watched", ["top", "store"]),
]


@pytest.mark.parametrize(
    ("why", "command"), REFUSED, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    why: str, command: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr that says what is wrong, status 1, and all files as they were."""
    with operate.look(place / "store") as store:
        id_of_other = str(store.find("Other", "a").id)
    before = everything(place)
    capsys.readouterr()
    status = main([id_of_other if word is ID_OF_OTHER else word for word in command])

    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert said.err.startswith("durable: ")
    assert said.err.count("\n") == 1
    assert why in said.err
    assert everything(place) == before


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "store"], ["show", "store", "Counter", "object 1"], ["alarms", "store"],
        ["stats", "store"], ["check", "store"], ["export", "store", "-o", "new"],
        ["copy", "store", "new"], ["import", "store", "good.jsonl"], ["demo", "store"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_store_of_a_later_version_is_left_alone(
    command: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its format is one that this version does not know."""
    with lmdb.open(str(place / "store"), max_dbs=10) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True, db=meta) as transaction:
            transaction.put(b"format", b"durable" + (99).to_bytes(4, "big"))
    before = everything(place)
    capsys.readouterr()
    status = main(command)

    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert "format 99" in said.err
    assert "upgrade" in said.err
    assert said.err.count("\n") == 1
    assert everything(place) == before


# As a process

# Becomes one who may not do everything, if it is one who may.
UNPRIVILEGED = """
import importlib, os, pkgutil, sys
import anyio._backends._asyncio, encodings.idna, lmdb, rich.status
# Python itself may lie where nobody else can read: what is imported late is imported now.
for module in pkgutil.iter_modules(lmdb.__path__, "lmdb."):
    if module.name.startswith("lmdb._") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from durable.cli import main
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
# Has a disk that is full after so many bytes.
SMALL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from durable.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *map(str, words)],
        **{"stdout": subprocess.PIPE, **options},
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def said_once(done: subprocess.CompletedProcess[str]) -> str:
    """What a command says that fails."""
    assert done.returncode == 1, done
    assert done.stderr.startswith("durable: ")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def reachable(place: Path) -> Iterator[Path]:
    """A copy of the place, where anybody can reach it: pytest closes the folders of tests to
    others, and closes them again whenever a run of it begins beside this one."""
    with TemporaryDirectory(dir=postgres.reachable()) as folder:
        copy = Path(shutil.copytree(place, Path(folder) / "place"))
        for each in (Path(folder), copy):
            each.chmod(0o755)
        yield copy
        copy.chmod(0o700)


@pytest.mark.parametrize("command", ["ls", "check", "export"])
@pytest.mark.parametrize("closed", [".", "store", "store/data.mdb"])
def test_what_cannot_be_read_is_said_so(closed: str, command: str, reachable: Path) -> None:
    """A folder that is closed is not taken for one that is not there."""
    folder = reachable / closed
    mode = folder.stat().st_mode & 0o777
    folder.chmod(0)
    try:
        said = said_once(run("-c", UNPRIVILEGED, command, reachable / "store"))
    finally:
        folder.chmod(mode)

    assert "Permission denied" in said
    assert said.count("\n") == 1


def test_what_cannot_be_written_is_said_so(reachable: Path) -> None:
    """A store of somebody else can be looked at, but nothing is made or changed in it."""
    for path in [reachable, *reachable.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = everything(reachable)
    store = reachable / "store"
    assert run("-c", UNPRIVILEGED, "ls", store).returncode == 0
    for words in (
        ["import", store, reachable / "good.jsonl", "--existing", "replace"],
        ["import", reachable / "new", reachable / "good.jsonl"],
        ["export", store, "-o", reachable / "new"],
        ["copy", store, reachable / "new"],
        ["demo", reachable / "new"],
    ):
        said = said_once(run("-c", UNPRIVILEGED, *words))
        assert "Permission denied" in said
        assert said.count("\n") == 1

    assert everything(reachable) == before
    for path in [reachable, *reachable.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    "words",
    [
        ["copy", "LARGE", "new"], ["copy", "LARGE", "new", "--compact"],
        ["export", "LARGE", "-o", "new"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_full_disk_leaves_nothing_of_a_copy(words: list[str], large: Path, place: Path) -> None:
    """The error says where, and what was begun is taken away."""
    before = everything(place)
    words = [str(large) if word == "LARGE" else word for word in words]
    said = said_once(run("-c", SMALL_DISK, 1 << 16, *words, cwd=place))

    assert "new" in said
    assert "File too large" in said
    assert said.count("\n") == 1
    assert everything(place) == before


def test_a_full_disk_leaves_whole_objects_of_an_import(large: Path, tmp_path: Path) -> None:
    """The store is whole, and what is missing can be brought when there is room."""
    assert main(["export", str(large), "-o", str(tmp_path / "all.jsonl")]) == 0
    said = said_once(
        run("-c", SMALL_DISK, 100_000, "import", tmp_path / "new", tmp_path / "all.jsonl")
    )

    assert "no room" in said
    assert operate.check(tmp_path / "new") == []
    words = ["import", str(tmp_path / "new"), str(tmp_path / "all.jsonl"), "--existing", "skip"]
    assert main(words) == 0
    with operate.look(tmp_path / "new") as store:
        assert store.measure().objects == OBJECTS + 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "--json"], ["ls", "Counter", "--json"], ["export"], ["check"]]
)  # fmt: skip
def test_an_output_that_is_full_is_said(words: list[str], large: Path) -> None:
    """Also where little is printed, which is written only at the end."""
    command, *rest = words
    with open("/dev/full", "w", encoding="utf-8") as full:
        said = said_once(run("-m", "durable", command, large, *rest, stdout=full))

    assert "No space left" in said
    assert said.count("\n") == 1


def test_an_export_to_a_device_is_written_into_it(place: Path) -> None:
    """It is not replaced by a file; a link is left one."""
    (place / "link").symlink_to(place / "file")
    os.mkfifo(place / "pipe")
    end = os.open(place / "pipe", os.O_RDWR)
    try:
        assert main(["export", "store", "-o", "pipe", "--force"]) == 0
        assert os.read(end, 20) == b'{"format":"durable e'
    finally:
        os.close(end)
    assert main(["export", "store", "-o", "link", "--force"]) == 0

    assert (place / "pipe").is_fifo()
    assert (place / "link").is_symlink()
    assert (place / "file").read_bytes() == (place / "good.jsonl").read_bytes()


COMMANDS = {
    "ls": ["ls", "STORE", "Counter"],
    "ls --json": ["ls", "STORE", "Counter", "--json"],
    "export": ["export", "STORE"],
}


def begun(words: list[str], large: Path) -> subprocess.Popen[str]:
    """A command that has printed its first line and has more to say than anybody reads."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", *[str(large) if w == "STORE" else w for w in words]],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_listing_whose_reader_has_enough_ends_quietly(words: list[str], large: Path) -> None:
    """As with `durable ls … | head -1`."""
    process = begun(words, large)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()

    assert (process.wait(30), said) == (141, "")


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_ctrl_c_ends_a_listing_that_nobody_reads(words: list[str], large: Path) -> None:
    """At once, without a word; whoever should read need not read on."""
    process = begun(words, large)
    assert process.stdout is not None
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "Input/output error")])
def test_what_ends_an_export_leaves_no_file(
    error: type[BaseException] | BaseException, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a part of it nor a whole, and a file that was there stays."""
    before = everything(place)

    def export(store: object, file: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(operate, "export", export)
    for words in (["new"], ["file", "--force"]):
        assert main(["export", "store", "-o", *words]) == (130 if error is KeyboardInterrupt else 1)
        assert everything(place) == before


def test_ctrl_c_ends_an_import_between_two_objects(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is stored by then is said, with the way to go on."""
    monkeypatch.setattr(operate.importing, "GROUP_COUNT_MAX", 1)
    import_file = operate.import_file

    def interrupted(*words: object, **options: object) -> object:
        def on_object(count: int) -> None:
            if count == 2:
                raise KeyboardInterrupt

        return import_file(*words, **{**options, "on_object": on_object})  # type: ignore[arg-type]

    monkeypatch.setattr(operate, "import_file", interrupted)
    capsys.readouterr()
    assert main(["import", "new", "good.jsonl"]) == 130
    assert "2 objects of the file were stored before that" in capsys.readouterr().err
    monkeypatch.undo()
    words = ["import", str(place / "new"), str(place / "good.jsonl"), "--existing", "skip"]
    assert main(words) == 0
    assert "2 skipped" in capsys.readouterr().err


def test_a_limit_of_memory_is_no_traceback(large: Path) -> None:
    """A store is mapped into the address space, of which a process may have little."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    code = (
        "import resource, sys\n"
        "from durable.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (32 << 20, {most}))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    assert "memory" in said_once(run("-c", code, "ls", large))
