"""Nothing that came out of a store reaches a terminal raw, and JSON stays exact all the same.

A store may have been filled from a stranger's export. Each command is run on one whose names, keys,
values, script and tags hold what terminals take for commands: escape sequences, also those of one
character (C1), overrides of the writing direction, and line breaks that begin a line of their own.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from rich.console import Console

from durable import cli, operate
from durable._lmdb import layout
from durable._lmdb.environment import Environment
from durable._lmdb.layout import top_level
from durable._model.clock import SystemClock
from durable._model.ids import IdFactory
from durable.cli import main, printing
from durable.operate import to_json
from durable.operate.json_lines import escaped, json_line

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\x9b2J\x90\x9c\u202eback\u2066\r\nFORGED line\x0b\x85FORGED\u2028FORGED"
    "\x7f\x08\u200b\x00"
)
NAME = "n" + EVIL
KEY = "k" + EVIL
UNIQUE_KEY = "u" + EVIL
SCRIPT = "s" + EVIL
VALUES: dict[str, Any] = {
    KEY: {EVIL: [EVIL, EVIL.encode(), Decimal(1)]},
    "damaged" + EVIL: 1,
    "other codec" + EVIL: 2,
    "plain": EVIL,
}
ID = str(IdFactory(UNIQUE_KEY).from_name(NAME))


def export_file(path: Path, **changes: Any) -> Path:
    time = "2026-01-01T00:00:00+00:00"
    alarm = {"due": "2030-01-01T00:00:00+00:00", "scheduled": time}
    lines = [
        {"format": "durable export", "version": 1},
        {"class": {"name": "Counter", "script": SCRIPT, "unique_key": UNIQUE_KEY}},
        {"object": {"id": ID, "name": NAME, "created": time, "alarm": alarm}},
        *({"key": key, "value": to_json(value)} for key, value in VALUES.items()),
        {"end": {"objects": 1, "values": len(VALUES)}},
    ]
    for number, line in changes.items():
        lines[int(number.removeprefix("line"))] = line
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that is hostile, and of files that are."""
    folder = tmp_path_factory.mktemp("hostile")
    file = export_file(folder / "good.jsonl")
    assert main(["import", str(folder / "store"), str(file)]) == 0
    export_file(folder / "format.jsonl", line0={"format": EVIL, "version": EVIL})
    export_file(folder / "version.jsonl", line0={"format": "durable export", "version": EVIL})
    export_file(folder / "class.jsonl", line1={"class": {"name": EVIL, "script": EVIL}})
    export_file(folder / "key.jsonl", line3={"key": EVIL, "value": {"$" + EVIL: EVIL}})
    export_file(folder / "twice.jsonl", line4={"key": KEY, "value": 1})
    environment = Environment.open(folder / "store", clock=SystemClock())
    try:
        environment.handle.write(spoil)
    finally:
        environment.close()
    (folder / "program.py").write_text(
        "import durable\nclass Counter(durable.DurableObject): ...\n", encoding="utf-8"
    )
    (folder / "program.toml").write_text(
        f"main = 'program.py'\npath = 'store'\nname = 'shop'\n"
        f"[[migrations]]\ntag = {json.dumps(EVIL)}\nnew_classes = ['Counter']\n",
        encoding="utf-8",
    )
    return folder


def spoil(txn: Any) -> None:
    """One value rots, and one was written by another codec."""
    for key, raw in list(txn.cursor().iternext()):
        if key.startswith(top_level(1) + b"damaged"):
            txn.put(key, raw[:-1] + bytes([raw[-1] ^ 1]))
        elif key.startswith(top_level(1) + b"other"):
            txn.put(key, layout.protect(key, EVIL.encode()))


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def is_terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tables are laid out in two ways."""

    def console(*, stderr: bool = False) -> Console:
        return Console(
            force_terminal=request.param, width=400, color_system=None, stderr=stderr, _environ={}
        )

    monkeypatch.setattr(printing, "console", console)
    is_it: bool = request.param
    return is_it


def is_harmless(text: str) -> bool:
    lines = text.split("\n")
    return all(line.isprintable() for line in lines) and not any(
        line.lstrip().startswith("FORGED") for line in lines
    )


ALL: dict[str, tuple[int, list[str]]] = {
    "ls": (0, ["ls", "store"]),
    "ls CLASS": (0, ["ls", "store", "Counter"]),
    "ls --prefix": (0, ["ls", "store", "--prefix", "n"]),
    "ls --fast": (0, ["ls", "store", "Counter", "--fast"]),
    "ls of no class": (1, ["ls", "store", "Nope"]),
    "show": (0, ["show", "store", "Counter", NAME]),
    "show by id": (0, ["show", "store", "Counter", ID]),
    "show of no object": (1, ["show", "store", "Counter", NAME + "x"]),
    "alarms": (0, ["alarms", "store"]),
    "stats": (0, ["stats", "store"]),
    "check": (1, ["check", "store"]),
    "export": (1, ["export", "store"]),
    "import again": (1, ["import", "store", "good.jsonl"]),
    "import format": (1, ["import", "new", "format.jsonl"]),
    "import version": (1, ["import", "new", "version.jsonl"]),
    "import class": (1, ["import", "new", "class.jsonl"]),
    "import key": (1, ["import", "new", "key.jsonl"]),
    "import twice": (1, ["import", "new", "twice.jsonl"]),
    "migrate": (0, ["migrate", "program.toml", "--dry-run"]),
    "migrate --old-tag": (1, ["migrate", "program.toml", "--old-tag", EVIL]),
    "no command": (2, [EVIL]),
    "no option": (2, ["ls", "--" + EVIL]),
    "no folder": (1, ["ls", "nowhere" + EVIL.replace("\0", "")]),
}


def run(command: list[str]) -> int:
    try:
        return main(command)
    except SystemExit as ended:
        return int(ended.code or 0) if isinstance(ended.code, int | None) else 1


@pytest.mark.parametrize(("status", "command"), ALL.values(), ids=ALL)
def test_no_command_prints_what_a_terminal_takes_for_commands(
    status: int,
    command: list[str],
    made: Path,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On the standard output and on stderr, in tables, in messages and in errors."""
    monkeypatch.chdir(made)

    assert run(command) == status

    said = capfd.readouterr()
    assert said.out + said.err
    assert is_harmless(said.out)
    assert is_harmless(said.err)


EVENTS = [
    {
        "event": "DeliveryEnded" + EVIL, "time": 1.0, "class_name": "Counter" + EVIL, "name": NAME,
        "object_id": ID, "error": EVIL, "duration_s": 0.5, EVIL: EVIL, "entry": [EVIL],
    },
    {"event": "Reset", "class_name": "Counter", "name": None, "object_id": EVIL, "reason": EVIL},
]  # fmt: skip
STATISTICS = {
    "open_deliveries": 1, "queued_deliveries": 1, "live_objects": 1, "websockets": 1,
    "cache_bytes": 1, "batches_waiting": 0, "store": {"file_size": 1},
}  # fmt: skip
BUSY = {
    "class_name": "Counter" + EVIL, "name": NAME, "object_id": ID, "deliveries": 1, "errors": 0,
    "queue": 0, "queued_s": 0.0, "gate_wait_s": 0.0, "duration_s": 0.0, "commit_wait_s": 0.0,
}  # fmt: skip
REPORT = {
    "pid": 1, "period_s": 1.0, "deliveries": 1, "commits": 1, "statistics": STATISTICS,
    "fsync_s": {"50": 0.1, "99": 0.1, "100": 0.1},
    "objects": [BUSY, {**BUSY, "name": None, "object_id": EVIL}],
}  # fmt: skip


@pytest.mark.parametrize("command", ["tail", "top"])
def test_what_a_running_program_tells_is_harmless_too(
    command: str,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(operate, "events", lambda store, peers=None: iter(EVENTS))
    monkeypatch.setattr(operate, "tops", lambda store, peers=None: iter([REPORT, REPORT]))
    if command == "top" and is_terminal:
        pytest.skip("it draws on a screen of its own; what it draws is the same")

    assert main([command, "store" + EVIL]) == 0

    said = capfd.readouterr()
    assert "Counter" in said.out
    assert is_harmless(said.out)
    assert is_harmless(said.err)


def test_an_error_of_a_running_program_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operate, "events", lambda store, peers=None: iter([{"error": EVIL}]))

    assert main(["tail", "store"]) == 1

    assert is_harmless(capfd.readouterr().err)


def test_the_demo_on_a_hostile_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its counter holds no number: what it was left at is shown, and harmless."""
    id = IdFactory("Counter").from_name("front page")
    environment = Environment.open(tmp_path / "store", clock=SystemClock())
    environment.close()
    lines = [
        {"format": "durable export", "version": 1},
        {"class": {"name": "Counter", "script": None, "unique_key": "Counter"}},
        {"object": {"id": str(id), "name": "front page", "created": "2026-01-01T00:00:00+00:00"}},
        {"key": "runs", "value": 1},
        {"key": "last run", "value": {"$datetime": "2026-01-01T00:00:00+00:00"}},
        {"key": "value", "value": EVIL},
        {"end": {"objects": 1, "values": 3}},
    ]
    file = tmp_path / "file.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["import", str(tmp_path / "store"), str(file)]) == 0
    with pytest.raises(TypeError):  # it cannot count on from there
        main(["demo", str(tmp_path / "store")])

    said = capfd.readouterr()
    assert "was left at" in said.out
    assert is_harmless(said.out)


# JSON


def parsed(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    assert len(text.splitlines()) == text.count("\n")  # for readers that know many line ends
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("command", "exact"),
    [
        (["ls", "store"], {"script": SCRIPT, "unique_key": UNIQUE_KEY}),
        (["ls", "store", "Counter"], {"name": NAME, "script": SCRIPT}),
        (["show", "store", "Counter", NAME], {"key": KEY, "value": to_json(VALUES[KEY])}),
        (["alarms", "store"], {"name": NAME, "script": SCRIPT}),
        (["migrate", "program.toml", "--dry-run"], {"tag": EVIL, "class": "Counter"}),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_json_is_exact_and_harmless(
    command: list[str],
    exact: dict[str, Any],
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All is there when it is parsed, character by character."""
    monkeypatch.chdir(made)
    assert main([*command, "--json"]) == 0

    out = capfd.readouterr().out
    assert is_harmless(out)
    assert any(exact.items() <= line.items() for line in parsed(out))


def test_an_export_is_exact_and_harmless(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It can be shown, and imported: then everything is there again."""
    assert main(["export", str(made / "store")]) == 1
    exported = capfd.readouterr().out
    assert is_harmless(exported)
    (tmp_path / "file").write_text(exported, encoding="utf-8")
    assert main(["import", str(tmp_path / "store"), str(tmp_path / "file")]) == 0

    with operate.look(tmp_path / "store") as store:
        (found,) = store.objects()
        items = dict(store.items(found))
    assert (found.name, found.cls.script, found.cls.unique_key) == (NAME, SCRIPT, UNIQUE_KEY)
    assert {key: items[key] for key in (KEY, "plain")} == {
        key: VALUES[key] for key in (KEY, "plain")
    }


@pytest.mark.parametrize("stderr", [False, True])
def test_on_a_real_terminal(stderr: bool, made: Path) -> None:
    """As a process that has one for its output; the colors are the command's own."""
    main_end, command_end = pty.openpty()
    streams: dict[str, Any] = {"stdout": command_end, "stderr": subprocess.DEVNULL}
    words = ["show", "store", "Counter", NAME.replace("\0", "")] if stderr else ["alarms", "store"]
    if stderr:
        streams = {"stdout": subprocess.DEVNULL, "stderr": command_end}
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", *words],
        cwd=made, stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}, **streams,
    )  # fmt: skip
    os.close(command_end)
    out = b"".join(read_all(main_end))
    assert process.wait(60) == (1 if stderr else 0)

    assert b"owned" in out
    for raw in (b"\x1b]", b"\x1b[2J", b"\x9b2J".decode("latin-1").encode(), "\u202e".encode()):
        assert raw not in out
    assert b"\nFORGED" not in out


def read_all(fd: int) -> Iterator[bytes]:
    with open(fd, "rb", buffering=0) as end:
        try:
            while part := end.read(65_536):
                yield part
        except OSError:  # as Linux says that the other end is closed
            return


# The one way to print


@pytest.mark.parametrize("text", ["", "plain", "ä", "日本", "a\\b", "'\"", "\x1b", EVIL, "\ud800"])
def test_text_is_escaped_only_where_it_must_be(text: str) -> None:
    shown = cli.plain_text.printable(text)

    assert shown.isprintable()
    assert (shown == text) == text.isprintable()
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text
    assert json.loads(json_line({"a": text})) == {"a": text}


def test_all_commands_print_through_the_functions_that_escape() -> None:
    """`say`, tables and lines of JSON; what else is written is exports and drawings of rich."""
    found = {
        (file.name, called)
        for file in Path(cli.__file__).parent.glob("*.py")
        for called in calls(file)
        if called in {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
    }

    assert found == {
        ("plain_text.py", "print"),
        ("printing.py", "sys.stdout.write"),  # lines of JSON, and rows that were escaped
        ("checking.py", "sys.stdout.write"),  # lines of JSON
        ("commands.py", "click.echo"),  # the help
        ("stub_classes.py", "click.echo"),  # Python, of source that was imported
    }


def calls(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
