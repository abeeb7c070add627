"""Files of Wrangler's open as they are; what cannot be had says so when it is used."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import durable
from durable.workers import open_worker

from .conftest import URL, Run, write

pytestmark = pytest.mark.backends("asyncio")

PLAIN = 'name = "it"\nmain = "worker.py"\ncompatibility_date = "2026-01-01"\n'
ROOM = """
from workers import DurableObject, Response, WorkerEntrypoint

class Room(DurableObject):
    async def hi(self):
        return "hi"

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(await self.env.ROOMS.getByName("a").hi())
"""
BOUND = '[[durable_objects.bindings]]\nname = "ROOMS"\nclass_name = "Room"\n'
FILES = {
    "plain": ("wrangler.toml", PLAIN + BOUND),
    "flags": ("wrangler.toml", PLAIN + 'compatibility_flags = ["python_workers"]\n' + BOUND),
    "observability": ("wrangler.toml", PLAIN + BOUND + "[observability]\nenabled = true\n"),
    "migrations": (
        "wrangler.toml",
        PLAIN + BOUND + '[[migrations]]\ntag = "v1"\nnew_sqlite_classes = ["Room"]\n',
    ),
    "new classes": (
        "wrangler.toml",
        PLAIN + BOUND + '[[migrations]]\ntag = "v1"\nnew_classes = ["Room"]\n',
    ),
    "exports": (
        "wrangler.toml",
        PLAIN + BOUND + '[exports.Room]\ntype = "durable-object"\nstorage = "sqlite"\n',
    ),
    "jsonc": (
        "wrangler.jsonc",
        '{ // a comment\n "name": "it", "main": "worker.py", "durable_objects": {"bindings": '
        '[{"name": "ROOMS", "class_name": "Room"}]}, "routes": ["a.example/*"], }',
    ),
    "json": (
        "wrangler.json",
        '{"name": "it", "main": "worker.py", "durable_objects": {"bindings": '
        '[{"name": "ROOMS", "class_name": "Room"}]}}',
    ),
}


@pytest.mark.parametrize(("name", "config"), FILES.values(), ids=FILES)
async def test_files_of_wrangler_open(
    tmp_path: Path, name: str, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing is said of what a Worker in development does not see."""
    file = write(tmp_path, ROOM, config, name)
    opener = open_worker(file)
    async with opener:
        response = await opener.worker.respond(durable.Request(URL))
        assert await response.text() == "hi"
    assert [record.getMessage() for record in caplog.records] == []


async def test_unknown_keys_are_told_once_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path, ROOM, PLAIN + "shoe_size = 44\n" + BOUND)
    for _ in range(2):
        async with open_worker(file):
            pass
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "passed over: shoe_size" in said[0]


WRONG = {
    "no main": ('name = "it"\n', "main: it is missing"),
    "no such main": ('name = "it"\nmain = "other.py"\n', "there is no file"),
    "javascript": ('name = "it"\nmain = "worker.js"\n', "must be a Python file"),
    "crons": (PLAIN + "triggers = { crons = 5 }\n", "crons must be a list of texts, not 5"),
    "assets": (PLAIN + "assets = 5\n", "assets: it must be a table, not 5"),
    "assets' folder": (PLAIN + "assets = { directory = 5 }\n", "directory must be a text"),
    "services": (PLAIN + "services = [{ binding = 5 }]\n", "has a binding and a service"),
    "kv": (PLAIN + "kv_namespaces = 5\n", "kv_namespaces: it must be a list of tables"),
    "a slip": (PLAIN + "assetts = {}\n", "did you mean 'assets'"),
}


@pytest.mark.parametrize(("config", "says"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_is_told_at_the_call(tmp_path: Path, config: str, says: str) -> None:
    file = write(tmp_path, ROOM, config)
    with pytest.raises(durable.InvalidConfig, match=says) as caught:
        open_worker(file)
    assert str(file) in str(caught.value)


VARIABLES = """
from workers import Response, WorkerEntrypoint, env, patch_env
import js

AT_IMPORT = env.GREETING

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        mine = self.env
        with patch_env(GREETING="patched"):
            patched = env.GREETING
        return Response.json([
            AT_IMPORT, env.GREETING, patched, mine.TABLE.key, mine.TABLE.list[1],
            mine.TABLE.to_py(), js.JSON.stringify(mine.TABLE), hasattr(mine, "NOTHING"),
            getattr(mine, "SECRET", None), self.env is mine,
        ])
"""


async def test_variables_and_secrets(run: Run, tmp_path: Path) -> None:
    """`vars`, and what `.dev.vars` says before them; tables are objects of JavaScript."""
    (tmp_path / ".dev.vars").write_text(
        "# secrets\nSECRET=\"a # b\"\nexport OTHER='x'\nBARE = bare # with a comment\n"
    )
    config = PLAIN + '[vars]\nGREETING = "hello"\nTABLE = { key = "v", list = [1, 2] }\n'
    async with run(VARIABLES, config) as opened:
        table = {"key": "v", "list": [1, 2]}
        assert json.loads(await opened.text()) == [
            *("hello", "hello", "patched", "v", 2, table, '{"key":"v","list":[1,2]}'),
            *(False, "a # b", True),
        ]
        env = opened.runtime.env
        assert (env.OTHER, env.BARE) == ("x", "bare")


async def test_an_environment_has_its_own_objects_name_and_secrets(
    run: Run, tmp_path: Path
) -> None:
    """It may be called otherwise, and have migrations of its own, as Wrangler lets it."""
    (tmp_path / ".dev.vars").write_text("SECRET=top")
    (tmp_path / ".dev.vars.stage").write_text("SECRET=stage")
    code = """
    from workers import DurableObject, Response, WorkerEntrypoint

    class Room(DurableObject):
        async def count(self):
            count = (await self.ctx.storage.get("count") or 0) + 1
            await self.ctx.storage.put("count", count)
            return [count, self.env.SECRET]

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return Response.json(await self.env.ROOMS.getByName("a").count())
    """
    stage = (
        '[env.stage]\nname = "it-on-stage"\n'
        'durable_objects.bindings = [{ name = "ROOMS", class_name = "Room" }]\n'
        '[[env.stage.migrations]]\ntag = "s1"\nnew_sqlite_classes = ["Room"]\n'
    )
    config = PLAIN + BOUND + stage
    async with run(code, config) as opened:
        assert json.loads(await opened.text()) == [1, "top"]
        assert opened.worker.script.name == "it"
    for count in (1, 2):
        async with run(code, config, environment="stage") as opened:
            assert json.loads(await opened.text()) == [count, "stage"]
            assert opened.worker.script.name == "it-on-stage"


MISSING = """
kv_namespaces = [{ binding = "KV", id = "1" }]
r2_buckets = [{ binding = "BUCKET", bucket_name = "b" }]
d1_databases = [{ binding = "DB", database_name = "d", database_id = "1" }]
queues.producers = [{ binding = "QUEUE", queue = "q" }]
ai = { binding = "AI" }
send_email = [{ name = "MAIL" }]
services = [{ binding = "OTHER", service = "other" }]
workflows = [{ binding = "FLOW", name = "f", class_name = "F" }]

[[durable_objects.bindings]]
name = "THEIRS"
class_name = "Thing"
script_name = "other"
"""
USES = {
    "await self.env.KV.get('a')": "env.KV is a KV namespace",
    "await self.env.BUCKET.put('a', 'b')": "env.BUCKET is an R2 bucket",
    "self.env.DB.prepare('select 1')": "env.DB is a D1 database",
    "await self.env.QUEUE.send('a')": "env.QUEUE is a queue",
    "await self.env.AI.run('m')": "env.AI is Workers AI",
    "self.env.MAIL.send()": "env.MAIL is an email binding",
    "self.env.FLOW.create()": "env.FLOW is a Workflow",
    "await self.env.OTHER.fetch(request)": "the Worker 'other', which is not at hand",
    "self.env.THEIRS.idFromName('a')": "durable dev wrangler.toml ../other/wrangler.toml",
    "self.env.TYPO.get('a')": "env has no 'TYPO'; the configuration binds: KV, BUCKET",
    "__import__('js').caches.default": "js.caches is not available here",
    "__import__('pyodide').ffi.run_sync(self.ctx.waitUntil)": "run_sync() is not available here",
}


async def test_a_binding_that_is_not_to_be_had_says_so_when_it_is_used(run: Run) -> None:
    """By its name; the Worker starts, and what else it does works."""
    branches = "\n".join(f"        if n == {n}:\n            {use}" for n, use in enumerate(USES))
    code = (
        "import pyodide.ffi\nfrom workers import Response, WorkerEntrypoint\n"
        "class Default(WorkerEntrypoint):\n"
        "    async def fetch(self, request):\n"
        "        n = int(request.url.rpartition('/')[2])\n"
        f"{branches}\n        return Response('fine')\n"
    )
    async with run(code, PLAIN + MISSING) as opened:
        assert await opened.text(f"/{len(USES)}") == "fine"
        for n, says in enumerate(USES.values()):
            with pytest.raises((NotImplementedError, AttributeError)) as caught:
                await opened.get(f"/{n}")
            assert says in str(caught.value)


SHOP = """
from workers import DurableObject, Response, WorkerEntrypoint, Blob

class Stock(DurableObject):
    async def take(self, name):
        return [name, self.env.WHERE]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(f"shop {request.method} {await request.text()}", headers={"x-a": "b"})

class Admin(WorkerEntrypoint):
    async def price(self, name, options=None):
        return {"name": name, "options": options, "where": self.env.WHERE}

    async def counter(self):
        count = 0
        def add(by):
            nonlocal count
            count += by
            return count
        return add

    async def identity(self, value):
        return value

    def fail(self):
        raise LookupError("no such thing")

    async def stock(self):
        return await self.env.STOCK.getByName("a").take("tea")
"""
DESK = """
from workers import Blob, DurableObject, Request, Response, WorkerEntrypoint

class Desk(DurableObject):
    async def ask(self):
        await self.ctx.storage.put("asked", True)
        return [await self.env.ADMIN.price("tea"), await self.ctx.storage.get("asked")]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        admin, shop, theirs = self.env.ADMIN, self.env.SHOP, self.env.THEIRS
        answer = await shop.fetch("https://shop/x", method="POST", body="hello")
        counter = await admin.counter()
        blob = await admin.identity(Blob("text", content_type="text/plain"))
        sent = await admin.identity(Request("https://x/y", method="PUT"))
        told = await admin.identity(ValueError("sent"))
        given = {"list": [1]}
        back = await admin.identity(given)
        try:
            await admin.fail()
        except Exception as error:
            failed = str(error).strip().splitlines()[-1]
        try:
            await admin.missing()
        except Exception as error:
            missing = str(error)
        return Response.json([
            await answer.text(), answer.headers["x-a"], await admin.price("tea", {"n": 1}),
            [await counter(1), await counter(2)], [await blob.text(), blob.content_type],
            [sent.method, sent.url], str(told), [back, back is given], failed, missing,
            await admin.stock(), await theirs.getByName("b").take("jam"),
            await self.env.DESKS.getByName("a").ask(), await self.env.SELF.hello("me"),
        ])

class Own(WorkerEntrypoint):
    def hello(self, name):
        return f"hello {name}"
"""


async def test_workers_are_bound_to_each_other(tmp_path: Path) -> None:
    """By services, by entrypoints of their own, and by classes of objects; values are copied."""
    shop = write(
        tmp_path / "shop",
        SHOP,
        'name = "shop"\nmain = "worker.py"\nvars.WHERE = "shop"\n'
        'durable_objects.bindings = [{ name = "STOCK", class_name = "Stock" }]\n',
    )
    desk = write(
        tmp_path / "desk",
        DESK,
        'name = "desk"\nmain = "worker.py"\nvars.WHERE = "desk"\n'
        'services = [{ binding = "SHOP", service = "shop" }, '
        '{ binding = "ADMIN", service = "shop", entrypoint = "Admin" }, '
        '{ binding = "SELF", service = "desk", entrypoint = "Own" }]\n'
        'durable_objects.bindings = [{ name = "DESKS", class_name = "Desk" }, '
        '{ name = "THEIRS", class_name = "Stock", script_name = "shop" }]\n',
    )
    opener = open_worker(desk, beside=[shop])
    async with opener:
        response = await opener.worker.respond(durable.Request(URL))
        price: dict[str, Any] = {"name": "tea", "options": None, "where": "shop"}
        assert json.loads(await response.text()) == [
            *("shop POST hello", "b", {**price, "options": {"n": 1}}, [1, 3]),
            *(["text", "text/plain"], ["PUT", "https://x/y"], "sent", [{"list": [1]}, False]),
            "LookupError: no such thing",
            'TypeError: The RPC receiver does not implement the method "missing".',
            *(["tea", "shop"], ["jam", "shop"], [price, True], "hello me"),
        ]


async def test_a_past_of_classes_that_exports_tell_is_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and the objects stay as they are; migrations do it."""
    config = PLAIN + BOUND + '[exports.Hall]\nstate = "renamed"\nrenamed_to = "Room"\n'
    async with open_worker(write(tmp_path, ROOM, config)):
        pass
    assert "[exports.Hall]: what happens to a class that is renamed is not done" in caplog.text


async def test_migrations_rename_the_classes_of_a_worker(tmp_path: Path) -> None:
    """As they do those of other programs."""
    code = """
    from workers import DurableObject
    class {name}(DurableObject):
        async def count(self):
            self.ctx.storage.kv.put("n", (self.ctx.storage.kv.get("n") or 0) + 1)
            return self.ctx.storage.kv.get("n")
    """
    bound = '[[durable_objects.bindings]]\nname = "ROOMS"\nclass_name = "{name}"\n'
    first = '[[migrations]]\ntag = "v1"\nnew_sqlite_classes = ["Hall"]\n'
    second = '[[migrations]]\ntag = "v2"\nrenamed_classes = [{ from = "Hall", to = "Room" }]\n'
    for name, migrations, count in (("Hall", first, 1), ("Room", first + second, 2)):
        config = PLAIN + bound.format(name=name) + migrations
        file = write(tmp_path, code.format(name=name), config)
        async with open_worker(file) as runtime:
            assert await runtime.env.ROOMS.get_by_name("a").count() == count


async def test_a_worker_without_a_handler_says_what_is_missing(run: Run) -> None:
    async with run("", PLAIN) as opened:
        with pytest.raises(TypeError, match=r"has no class Default\(WorkerEntrypoint\)"):
            await opened.get()


async def test_background_work_is_seen_to_its_end(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """That of a Worker, by `ctx.waitUntil` and `wait_until`; what fails is logged."""
    code = """
    import asyncio
    from workers import Response, WorkerEntrypoint, wait_until, waitUntil

    DONE = []

    async def later(what):
        await asyncio.sleep(0.01)
        if what == "fail":
            raise ValueError("in the background")
        DONE.append(what)

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.url.endswith("/done"):
                return Response.json(DONE)
            self.ctx.waitUntil(later("a"))
            self.ctx.wait_until(later("fail"))
            self.ctx.passThroughOnException()
            waitUntil(later("b"))
            wait_until(later("c"))
            return Response("ok")
    """
    async with run(code, PLAIN) as opened:
        assert await opened.text() == "ok"
        main = opened.worker.code.main
    assert main.DONE == ["a", "b", "c"]
    assert caplog.records[0].levelno == logging.ERROR
    assert "in the background" in caplog.text


async def test_a_worker_that_is_opened_as_a_program_of_the_library_is_told_how_to(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, ROOM, PLAIN + BOUND)
    with pytest.raises(ModuleNotFoundError) as caught:
        durable.open_config(file, path=tmp_path / "state")
    assert "durable.workers.open_worker" in caught.value.__notes__[0]


@pytest.mark.backends("trio")
async def test_a_worker_is_a_program_of_asyncio(tmp_path: Path) -> None:
    """Another event loop is told so, and nothing is left behind."""
    file = write(tmp_path, ROOM, PLAIN + BOUND)
    with pytest.raises(durable.DurableError, match="a Worker is a program of asyncio"):
        async with open_worker(file):
            pass
