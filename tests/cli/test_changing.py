"""`put`, `delete` and `call`: by the program that has the store, or by the command itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import operate
from durable.cli import main

pytest.importorskip("click")
pytest.importorskip("rich")

pytestmark = pytest.mark.backends("asyncio")

ROOT = Path(__file__).resolve().parents[2]

MODULE = """
import dataclasses
import sys

import anyio
import durable
import durable.asgi


@dataclasses.dataclass
class Note:
    text: str


class Box(durable.DurableObject):
    values = [Note]
    made = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        Box.made += 1

    async def put(self, key, value):
        self.ctx.storage.put(key, value)

    async def add(self, by=1, *, times=1):
        count = await self.ctx.storage.get("n", 0) + by * times
        self.ctx.storage.put("n", count)
        return count

    async def note(self, text):
        return Note(text)

    async def text_of(self, note):
        return note.text

    async def ticks(self, count):
        for number in range(count):
            yield number

    async def response(self):
        return durable.Response("no value")

    async def fail(self):
        raise LookupError("not here")

    async def abort(self):
        self.ctx.abort("enough")

    async def set_alarm(self):
        self.ctx.storage.set_alarm(4e9)

    async def alarm(self):
        pass

    def how_often_made(self):
        return self.made

    async def _secret(self):
        pass


async def fetch(request, env):
    return durable.Response("hello")


app = durable.asgi.app(fetch, "store", bindings={"BOXES": Box})
elsewhere = durable.asgi.app(fetch, "other", bindings={"BOXES": Box})


async def run():
    async with durable.open("store", bindings={"BOXES": Box}, operate=sys.argv[1] == "yes"):
        print("open", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(run, backend=sys.argv[2])
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a program and a store of its, which no process has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "boxes.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "durable.toml").write_text(
        'name = "boxes"\nmain = "boxes.py"\npath = "configured"\n'
        '[[durable_objects.bindings]]\nname = "BOXES"\nclass_name = "Box"\n'
        '[[migrations]]\ntag = "v1"\nnew_classes = ["Box"]\n',
        encoding="utf-8",
    )
    sys.modules.pop("boxes", None)
    monkeypatch.syspath_prepend(str(tmp_path))

    async def fill() -> None:
        from boxes import Box  # type: ignore[import-not-found]

        async with durable.open("store", bindings={"BOXES": Box}) as runtime:
            await runtime.env.BOXES.get_by_name("a").put("n", 5)
            await runtime.env.BOXES.get_by_name("a").put("text", "hello")

    anyio.run(fill)
    yield tmp_path
    sys.modules.pop("boxes", None)


@pytest.fixture(params=["asyncio", "trio"])
def running(place: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The same, with the program running."""
    process = start("yes", request.param)
    yield place
    stop(process)


def start(takes_orders: str, backend: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "boxes.py", takes_orders, backend],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def stored(name: str = "a") -> dict[str, Any]:
    with operate.look("store") as store:
        return dict(store.items(store.find("Box", name)))


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    assert main([*command, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def check_put_and_delete(capsys: pytest.CaptureFixture[str]) -> None:
    value = '{"$tuple": [1, {"$datetime": "2030-01-02T03:04:05+00:00"}]}'
    assert printed(capsys, "put", "store", "Box", "a", "k", value) == {"stored": "k"}
    assert operate.to_json(stored()["k"]) == json.loads(value)
    assert main(["put", "store", "Box", "new one", "", '"text"']) == 0
    assert stored("new one") == {"": "text"}
    with operate.look("store") as store:
        hex_id = str(store.find("Box", "new one").id)
    assert main(["put", "store", "Box", hex_id, "more", "null"]) == 0
    assert stored("new one") == {"": "text", "more": None}

    command = ["delete", "store", "Box", "a", "k", "--yes"]
    assert printed(capsys, *command) == {"deleted": True}
    assert main(command) == 1
    assert "there is no such key: the key 'k' of the object 'a'" in capsys.readouterr().err
    assert printed(capsys, "delete", "store", "Box", hex_id, "--yes") == {"deleted": True}
    with operate.look("store") as store:
        assert [found.name for found in store.objects()] == ["a"]
    assert main(["delete", "store", "Box", "new one", "--yes"]) == 1
    assert "no object 'new one'" in capsys.readouterr().err


def test_the_program_that_has_the_store_stores_and_deletes(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As events of its objects: they are made for it, and see it at once."""
    assert printed(capsys, "call", "store", "Box", "a", "add") == {"result": 6}
    assert main(["put", "store", "Box", "a", "n", "40"]) == 0
    assert printed(capsys, "call", "store", "Box", "a", "add", "[2]") == {"result": 42}
    check_put_and_delete(capsys)
    assert printed(capsys, "call", "store", "Box", "b", "set_alarm") == {"result": None}
    assert main(["delete", "store", "Box", "b", "--yes"]) == 0
    with operate.look("store") as store:
        assert list(store.alarms()) == []


def test_where_no_program_has_the_store_the_command_writes_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No code of the object runs; the store stays whole."""
    check_put_and_delete(capsys)
    assert operate.check("store") == []


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("store", ["--app", "boxes"]),
        ("store", ["--app", "boxes:app"]),
        ("configured", ["--config", "durable.toml"]),
    ],
)
def test_with_the_code_named_the_command_runs_it(
    place: Path, folder: str, code: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A module, an application, or a configuration file; `put` and `delete` are events then."""

    async def fill() -> None:
        async with durable.open_config("durable.toml") as runtime:
            await runtime.env.BOXES.get_by_name("a").put("n", 5)

    def run(command: str, *words: str) -> int:
        sys.modules.pop("boxes", None)  # as in a process of its own
        return main([command, folder, "Box", "a", *words, *code])

    anyio.run(fill)
    assert run("call", "add") == 0
    assert run("put", "n", "10") == 0
    assert run("call", "add") == 0
    assert capsys.readouterr().out == "6\n11\n"
    assert run("delete", "n", "--yes") == 0
    assert run("delete", "n", "--yes") == 1
    assert run("call", "add") == 0
    assert run("delete", "--yes") == 0
    capsys.readouterr()
    assert printed(capsys, "ls", folder)["objects"] == 0


def test_a_call_takes_arguments_and_prints_what_it_returns(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By place or by name; values of any kind, instances too, and streams as lists."""

    def call(*words: str) -> Any:
        return printed(capsys, "call", "store", "Box", "a", *words)["result"]

    assert call("add", "[1]") == 6
    assert call("add", '{"by": 2, "times": 3}') == 12
    assert call("note", '["hello"]') == {"$instance": [["text", "hello"]], "class": "Note"}
    note = '[{"$instance": [["text", "hello"]], "class": "Note"}]'
    assert call("text_of", note) == "hello"
    assert call("ticks", "[3]") == [0, 1, 2]
    assert [call("add", "[1]", "--once", "k") for _ in range(2)] == [13, 13]
    assert main(["call", "store", "Box", "a", "add", '{"by": 0}']) == 0
    assert capsys.readouterr().out == "13\n"
    assert main(["put", "store", "Box", "a", "note", note[1:-1]]) == 0


REFUSED: list[tuple[str, list[str]]] = [
    ("LookupError: not here", ["call", "store", "Box", "a", "fail"]),
    ("enough", ["call", "store", "Box", "a", "abort"]),
    ("does not implement the method", ["call", "store", "Box", "a", "nothing"]),
    ("does not implement the method", ["call", "store", "Box", "a", "_secret"]),
    ("reserved method", ["call", "store", "Box", "a", "fetch"]),
    ("unexpected keyword argument", ["call", "store", "Box", "a", "add", '{"no": 1}']),
    ("its result cannot be shown", ["call", "store", "Box", "a", "response"]),
    ("more than 10,000 items", ["call", "store", "Box", "a", "ticks", "[10001]"]),
    ("is an async generator", ["call", "store", "Box", "a", "ticks", "[1]", "--once", "k"]),
    ("there is no class 'Nope'", ["call", "store", "Nope", "a", "add"]),
    ("there is no class 'Nope'", ["put", "store", "Nope", "a", "k", "1"]),
    ("not valid for this namespace", ["put", "store", "Box", "0" * 64, "k", "1"]),
    ("Keys cannot be larger", ["put", "store", "Box", "a", "k" * 2_049, "1"]),
    ("Values cannot be larger", ["put", "store", "Box", "a", "k", json.dumps("x" * 2_200_000)]),
    ("valid Unicode", ["put", "store", "Box", "a", "\udcff", "1"]),
]


@pytest.mark.parametrize("where", ["running", "here"])
@pytest.mark.parametrize(("why", "command"), REFUSED, ids=lambda part: str(part)[:60])
def test_what_cannot_be_done_is_said_and_changes_nothing(
    where: str, why: str, command: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the program that has the store, or by the command itself, in the same words."""
    process = start("yes", "asyncio") if where == "running" else None
    code = ["--app", "boxes"] if process is None and command[0] == "call" else []
    try:
        status = main([*command, *code])
    finally:
        if process is not None:
            stop(process)
    said = capsys.readouterr()
    assert status == 1
    assert why in said.err, said.err
    assert said.err.startswith("durable: ")
    assert "Traceback" not in said.err
    assert said.out == ""
    assert stored() == {"n": 5, "text": "hello"}


USAGE: list[tuple[str, list[str]]] = [
    ("VALUE is not JSON", ["put", "store", "Box", "a", "k", "text"]),
    ("a text has quotes", ["put", "store", "Box", "a", "k", "text"]),
    ("JSON has no NaN", ["put", "store", "Box", "a", "k", "NaN"]),
    ("no type '$nothing'", ["put", "store", "Box", "a", "k", '{"$nothing": 1}']),
    ("ARGS is not JSON", ["call", "store", "Box", "a", "add", "[1"]),
    ("a JSON list", ["call", "store", "Box", "a", "add", "1"]),
    ("not both", ["call", "store", "Box", "a", "add", "--app", "boxes", "--config", "x"]),
    ("no module 'nothing'", ["call", "store", "Box", "a", "add", "--app", "nothing"]),
    ("not an application", ["call", "store", "Box", "a", "add", "--app", "boxes:nothing"]),
    ("not an application", ["call", "store", "Box", "a", "add", "--app", "boxes:Box"]),
    ("opens the store 'other'", ["call", "store", "Box", "a", "add", "--app", "boxes:elsewhere"]),
]


@pytest.mark.parametrize(("why", "command"), USAGE, ids=lambda part: str(part)[:60])
def test_what_is_not_understood_is_said(
    why: str, command: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
    assert stored() == {"n": 5, "text": "hello"}


def test_a_deletion_asks_before(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can be asked, --yes must be given."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for key in ([], ["n"]):
        assert main(["delete", "store", "Box", "a", *key]) == 1
        said = capsys.readouterr().err
        assert "of the object 'a' of Box for good. Go on?" in said
        assert "nothing was deleted" in said
    assert stored() == {"n": 5, "text": "hello"}


def test_a_call_needs_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a program that runs, or named."""
    assert main(["call", "store", "Box", "a", "add"]) == 1
    said = capsys.readouterr().err
    assert "no program has the store 'store' open" in said
    assert "--app MODULE" in said


def test_a_program_that_takes_no_orders_is_not_passed_by(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store has an owner, who must be asked."""
    process = start("no", "asyncio")
    try:
        assert main(["put", "store", "Box", "a", "k", "1"]) == 1
        assert main(["delete", "store", "Box", "a", "n", "--yes"]) == 1
    finally:
        stop(process)
    said = capsys.readouterr().err
    assert said.count("is in use by process") == 2
    assert "operate=True" in said
    assert stored() == {"n": 5, "text": "hello"}


def test_nothing_is_made_where_no_store_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["put", "nowhere", "Box", "a", "k", "1"],
        ["delete", "nowhere", "Box", "a", "--yes"],
        ["call", "nowhere", "Box", "a", "add", "--app", "boxes"],
    ):
        assert main(command) == 1
    assert not Path("nowhere").exists()


def test_a_store_with_a_codec_of_its_own_is_not_written_to(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But by its program, which has that codec."""

    class Own:
        def encode(self, value: Any) -> bytes:
            return b"own " + repr(value).encode()

        def decode(self, encoded: bytes) -> Any:
            return eval(encoded[4:])

    async def fill() -> None:
        from boxes import Box

        async with durable.open("own", bindings={"BOXES": Box}, codec=Own()) as runtime:
            await runtime.env.BOXES.get_by_name("a").put("n", 5)

    anyio.run(fill)
    assert main(["put", "own", "Box", "a", "k", "1"]) == 1
    assert "not written by the library's codec" in capsys.readouterr().err


def test_python_programs_do_the_same(running: Path) -> None:
    """`durable.operate` has the three as functions."""
    operate.put("store", "Box", "a", "n", 40)
    assert operate.call("store", "Box", "a", "add", [2]) == 42
    assert operate.call("store", "Box", "a", "add", kwargs={"by": 1}, once="k") == 43
    assert operate.delete("store", "Box", "a", "n")
    assert not operate.delete("store", "Box", "a", "n")
    assert not operate.delete("store", "Box", "nobody")
    with pytest.raises(operate.Refused, match="LookupError: not here"):
        operate.call("store", "Box", "a", "fail")
