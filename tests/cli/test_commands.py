"""Each command as a process of its own, on a store that a living process has in use.

What only looks works beside the owner; what would write says who it is. Bad input is one line on
stderr, a status above zero, and nothing changed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durable.cli import main

pytest.importorskip("click")
pytest.importorskip("rich")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}

OWNER = """
import sys, datetime, anyio, durable

class Counter(durable.DurableObject):
    async def increment(self):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value
    async def keep(self, key, value):
        self.ctx.storage.put(key, value)
    async def set_alarm(self):
        self.ctx.storage.set_alarm(4_000_000_000.0)
    async def alarm(self): ...

async def main():
    async with durable.open(sys.argv[1], bindings={"C": Counter}, operate=True) as runtime:
        page = runtime.env.C.get_by_name("front page")
        await page.keep("set", {1, 2})
        await page.set_alarm()
        await runtime.env.C.get_by_name("back\\x1b[31mpage").keep("key\\n", None)
        if "once" in sys.argv:
            return
        print("ready", flush=True)
        while True:
            await page.increment()
            await anyio.sleep(0.02)

anyio.run(main)
"""


def durable(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said(*arguments: object) -> str:
    """What a command that succeeds prints."""
    done = durable(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(*arguments).splitlines()]


def refused(*arguments: object) -> str:
    """What a command that fails says, on one line."""
    done = durable(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("durable: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process that has a store in use, and goes on writing."""
    folder = tmp_path_factory.mktemp("used") / "store"
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    assert process.poll() is None  # nothing that was done here made it stop
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def used(owner: subprocess.Popen[str]) -> Path:
    """The store that is in use."""
    arguments = owner.args
    assert isinstance(arguments, list)
    return Path(str(arguments[-1]))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that nobody has in use."""
    folder = tmp_path / "store"
    subprocess.run(
        [sys.executable, "-c", OWNER, str(folder), "once"],
        env=ENVIRONMENT, check=True, timeout=60,
    )  # fmt: skip
    return folder


# Looking


def test_ls_lists_classes(used: Path) -> None:
    """For people as a table, for programs as JSON."""
    assert "Counter" in said("ls", used)
    assert lines("ls", used, "--json") == [
        {"class": "Counter", "script": None, "unique_key": "Counter", "objects": 2}
    ]


def test_ls_lists_objects(used: Path) -> None:
    """By class and by a prefix of their names; a name cannot command the terminal."""
    table = said("ls", used, "Counter")
    assert "front page" in table
    assert "2096-10-02" in table
    assert "\x1b" not in table
    assert "back\\x1b[31mpage" in table
    (found,) = lines("ls", used, "Counter", "--prefix", "front", "--json")
    assert (found["name"], found["keys"]) == ("front page", 2)
    assert found["alarm"]["due"].startswith("2096-10-02")
    (fast,) = lines("ls", used, "--prefix", "front", "--fast", "--json")
    assert "keys" not in fast


def test_show_shows_an_object(used: Path) -> None:
    """By name or by id, with decoded values."""
    shown = said("show", used, "Counter", "front page")
    assert "{1, 2}" in shown
    described, *items = lines("show", used, "Counter", "front page", "--json")
    assert items[0] == {"key": "set", "value": {"$set": [1, 2]}}
    by_id = lines(
        "show", used, "Counter", described["object"]["id"], "--prefix", "s", "--limit", 1, "--json"
    )
    assert by_id == [described, items[0]]


def test_alarms_lists_alarms(used: Path) -> None:
    """The next one first."""
    assert "front page" in said("alarms", used)
    assert [each["name"] for each in lines("alarms", used, "Counter", "--json")] == ["front page"]


def test_stats_measures_the_file(used: Path) -> None:
    """Costs the same for a small store and a large one."""
    assert "free pages" in said("stats", used)
    (found,) = lines("stats", used, "--json")
    assert (found["objects"], found["alarms"]) == (2, 1)
    assert found["file_size"] >= found["page_size"] * 4


def test_check_finds_nothing_wrong(used: Path) -> None:
    """While the store is in use."""
    assert said("check", used) == "nothing is wrong\n"
    assert lines("check", used, "--json") == []


def test_check_says_what_is_wrong(store: Path) -> None:
    """A file that is cut off is a line, not a crash."""
    with (store / "data.mdb").open("r+b") as file:
        file.truncate(5_000)

    assert "damaged" in refused("check", store)


# Carrying


def test_what_was_exported_in_use_is_imported_elsewhere(used: Path, tmp_path: Path) -> None:
    """A file, or the standard output; one object, a class, or all."""
    file = tmp_path / "objects.jsonl"
    assert durable("export", used, "-o", file).returncode == 0
    assert len(said("export", used, "Counter", "front page").splitlines()) == 6
    assert said("export", used, "Counter").count('"object"') == 2

    done = durable("import", tmp_path / "other", file)
    assert (done.returncode, done.stderr) == (0, "2 objects with 3 values\n")
    assert durable("import", tmp_path / "other", file, "--class", "Tally").returncode == 0
    assert [each["class"] for each in lines("ls", tmp_path / "other", "--json")] == [
        "Counter", "Tally",
    ]  # fmt: skip
    assert said("check", tmp_path / "other") == "nothing is wrong\n"


def test_an_object_is_forked(store: Path, tmp_path: Path) -> None:
    """Export one, import it under another name."""
    file = tmp_path / "one.jsonl"
    durable("export", store, "Counter", "front page", "-o", file)
    durable("import", store, file, "--name", "side page")

    names = {each["name"] for each in lines("ls", store, "Counter", "--json")}
    assert {"front page", "side page"} < names


def test_an_import_overwrites_only_when_told(store: Path, tmp_path: Path) -> None:
    """The default is to refuse."""
    file = tmp_path / "objects.jsonl"
    durable("export", store, "-o", file)
    assert "in the store already" in refused("import", store, file)
    assert "2 skipped" in durable("import", store, file, "--existing", "skip").stderr
    assert durable("import", store, file, "--existing", "replace").returncode == 0


def test_an_import_into_a_store_in_use_says_who_uses_it(
    used: Path, owner: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Two owners there cannot be."""
    file = tmp_path / "objects.jsonl"
    durable("export", used, "-o", file)

    assert f"in use by process {owner.pid}" in refused("import", used, file)


def test_an_export_does_not_write_over_a_file(store: Path, tmp_path: Path) -> None:
    """Unless it is told to."""
    file = tmp_path / "mine.txt"
    file.write_text("mine", encoding="utf-8")
    assert "--force" in refused("export", store, "-o", file)
    assert file.read_text(encoding="utf-8") == "mine"
    assert durable("export", store, "-o", file, "--force").returncode == 0
    assert "durable export" in file.read_text(encoding="utf-8")


def test_a_broken_file_is_not_imported(store: Path, tmp_path: Path) -> None:
    """The line is named, and nothing is made."""
    file = tmp_path / "objects.jsonl"
    durable("export", store, "-o", file)
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")

    assert "line" in refused("import", tmp_path / "other", file)
    assert not (tmp_path / "other").exists()


def test_a_copy_is_made_while_the_store_is_in_use(used: Path, tmp_path: Path) -> None:
    """It is whole, and nothing else is left."""
    for options in ((), ("--compact",)):
        target = tmp_path / f"copy{len(options)}"
        assert durable("copy", used, target, *options).returncode == 0
        assert said("check", target) == "nothing is wrong\n"
        assert {each["name"] for each in lines("ls", target, "Counter", "--json")} == {
            "front page", "back\x1b[31mpage",
        }  # fmt: skip
    assert "only where nothing is" in refused("copy", used, tmp_path / "copy0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy0", "copy1"]


# Watching


def test_tail_shows_what_happens(used: Path) -> None:
    """As it happens, chosen by class, name and kind of event."""
    told = said("tail", used, "--event", "DeliveryEnded", "--count", 1)
    assert "DeliveryEnded Counter('front page') kind=rpc method=increment" in told
    (event,) = lines("tail", used, "--class", "Counter", "--name", "front page", "--count", 1,
                     "--json")  # fmt: skip
    assert event["name"] == "front page"


def test_top_shows_the_busiest(used: Path) -> None:
    """With their queues and waits, and the latency of commits."""
    shown = said("top", used, "--count", 1)
    assert "Counter('front page')" in shown
    assert "fsync p50" in shown
    (report,) = lines("top", used, "--count", 1, "--json")
    assert report["objects"][0]["name"] == "front page"
    assert report["objects"][0]["deliveries"] > 0


def test_nobody_can_be_watched(store: Path) -> None:
    """A store without a program that lets itself be watched is an error that says how."""
    for command in ("tail", "top"):
        assert "operate=True" in refused(command, store)


# Serving, and migrating

APP = """
import durable
from durable.asgi import app as make

class Counter(durable.DurableObject):
    async def fetch(self, request):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return durable.Response(str(value))

async def fetch(request, env):
    return await env.COUNTERS.get_by_name("front page").fetch(request)

app = make(fetch, "store", bindings={"COUNTERS": Counter})
"""


def test_serve_serves(tmp_path: Path) -> None:
    """An application under uvicorn, which can be watched, and ends at a signal."""
    pytest.importorskip("uvicorn")
    (tmp_path / "web.py").write_text(APP, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "serve", "web:app", "--port", "0", "--operate"],
        cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "running on" in line:
                break
        address = line.split("running on ")[1].split()[0]
        for expected in (b"1", b"2"):
            with urllib.request.urlopen(address, timeout=30) as response:
                assert response.read() == expected
        assert lines("top", tmp_path / "store", "--count", 1, "--json")[0]["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 0
    (found,) = lines("ls", tmp_path / "store", "Counter", "--json")
    assert found["name"] == "front page"


def test_serve_says_what_it_cannot_find(tmp_path: Path) -> None:
    """A module that is not there."""
    done = durable("serve", "nothing_there:app", cwd=tmp_path)

    assert done.returncode != 0
    assert "nothing_there" in done.stderr
    assert durable("serve", "nothing_there").returncode == 2


CONFIG = """
name = "site"
main = "site_main.py"
path = "store"
[[migrations]]
tag = "v1"
new_classes = ["Counter"]
"""
LATER = """
[[migrations]]
tag = "v2"
deleted_classes = ["Counter"]
"""
MAIN = """
import durable
class Counter(durable.DurableObject): ...
"""


def test_migrate_says_and_then_does(tmp_path: Path) -> None:
    """A dry run changes nothing; a deletion wants a yes; once done, nothing is left to do."""
    config = tmp_path / "durable.toml"
    config.write_text(CONFIG, encoding="utf-8")
    (tmp_path / "site_main.py").write_text(MAIN, encoding="utf-8")
    assert "v1: create class Counter" in said("migrate", config, "--dry-run")
    assert not (tmp_path / "store").exists()
    assert "done" in said("migrate", config)
    assert "up to date" in said("migrate", config)

    config.write_text(CONFIG + LATER, encoding="utf-8")
    denied = durable("migrate", config)
    assert denied.returncode == 1
    assert "nothing was changed" in denied.stderr
    assert "'v1', not 'v7'" in refused("migrate", config, "--yes", "--old-tag", "v7")
    (facts,) = lines("migrate", config, "--dry-run", "--json")
    assert (facts["tag"], facts["does"], facts["class"]) == ("v2", "deleted", "Counter")
    assert facts["objects"] == 0
    assert "delete class Counter" in said("migrate", config, "--yes", "--old-tag", "v1")
    assert lines("ls", tmp_path / "store", "--json") == []


# Bad input


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",), ("show", "x"), ("lss", "x"), ("ls", "x", "--nope"), ("show", "a", "B"),
        ("import", "x", "y", "--existing", "maybe"), ("top", "x", "--rows", "0"),
    ],
)  # fmt: skip
def test_a_command_that_is_not_understood_has_status_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is wrong on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("durable: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",), ("ls", "Counter"), ("show", "Counter", "a"), ("alarms",), ("stats",), ("check",),
        ("export",), ("copy", "target"), ("tail",), ("top",),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_store_is_left_alone(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is missing, empty, or something else; nothing is made in it."""
    command, *rest = arguments
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for name in ("missing", "empty", "file"):
        status = main([command, str(tmp_path / name), *rest])
        said = capsys.readouterr()
        assert (status, said.out) == (1, "")
        assert said.err.startswith("durable: ")
        assert said.err.count("\n") == 1

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


def test_what_is_not_there_is_said_with_what_is(used: Path) -> None:
    """A class, an object, an id of nobody."""
    assert "known are: Counter" in refused("ls", used, "Nope")
    assert "'nobody'" in refused("show", used, "Counter", "nobody")
    assert "ID" in refused("show", used, "Counter", "0" * 64)


def test_a_reader_that_has_enough_is_no_error(used: Path) -> None:
    """`durable … | head` ends without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "tail", str(used), "--json"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()

    assert process.wait(30) == 141
    assert "Traceback" not in said


def test_an_interrupt_ends_a_command(used: Path) -> None:
    """Ctrl-C is how `tail` is ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "tail", str(used)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in said


WITHOUT_EXTRAS = """
import sys
sys.modules["click"] = sys.modules["rich"] = None
from durable.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_extras_there_are_the_demo_and_the_check(tmp_path: Path) -> None:
    """They run, and the help says what to install for the others."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_EXTRAS, *arguments],
            cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    assert "answered" in run("demo").stdout
    assert run("check", "durable-demo").stdout == "nothing is wrong\n"
    assert run("check", "nowhere").returncode == 1
    assert "durable-objects[cli]" in run("--help").stdout
    missing = run("ls", "durable-demo")
    assert missing.returncode == 2
    assert "durable-objects[cli]" in missing.stderr
