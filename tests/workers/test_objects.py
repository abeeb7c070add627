"""Objects of Workers: `ctx`, its storage, alarms and SQL, as Cloudflare's Python spells them."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

import durable
from durable.testing import VirtualClock, evict, run_alarm

from .conftest import CONFIG, Run

pytestmark = pytest.mark.backends("asyncio", "uvloop")

HEAD = """from workers import DurableObject
from pyodide.ffi import to_js, JsException, jsnull
import js
"""


async def asked(run: Run, body: str, *, head: str = "") -> Any:
    """What `ask` of an object returns, whose body this is."""
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    code = f"{HEAD}{head}\nclass Thing(DurableObject):\n    async def ask(self):\n{lines}\n"
    async with run(code) as opened:
        return await opened.thing.ask()


STORAGE = {
    "put and get": ("await s.put('a', 1)\nreturn await s.get('a')", 1),
    "what is missing is None": ("return await s.get('a')", None),
    "null is None": (
        "s.put('a', jsnull)\nreturn [await s.get('a'), await s.delete('a')]",
        [None, True],
    ),
    "several are put": (
        "await s.put({'a': 1, 'b': 2})\nreturn await s.get(['b', 'a', 'c'])",
        {"a": 1, "b": 2},
    ),
    "an object of JavaScript is put": (
        "await s.put(to_js({'a': [1]}, dict_converter=js.Object.fromEntries))\n"
        "return await s.get('a')",
        [1],
    ),
    "delete tells": (
        "s.put('a', 1)\nreturn [await s.delete('a'), await s.delete('a')]",
        [True, False],
    ),
    "several are deleted": (
        "s.put({'a': 1, 'b': 2})\nreturn [await s.delete(['a', 'x']), len(await s.list())]",
        [1, 1],
    ),
    "list by an object": (
        "s.put({'a1': 1, 'a2': 2, 'b': 3})\nreturn await s.list({'prefix': 'a', 'limit': 1})",
        {"a1": 1},
    ),
    "list by keywords": (
        "s.put({'a': 1, 'b': 2, 'c': 3})\nreturn await s.list(startAfter='a', reverse=True)",
        {"c": 3, "b": 2},
    ),
    "list by snake case": (
        "s.put({'a': 1, 'b': 2})\nreturn await s.list(start_after='a')",
        {"b": 2},
    ),
    "options of get": ("s.put('a', 1)\nreturn await s.get('a', {'allowConcurrency': True})", 1),
    "options of put": ("s.put('a', 1, {'allowUnconfirmed': True})\nreturn await s.get('a')", 1),
    "all is deleted": ("s.put('a', 1)\nawait s.deleteAll()\nreturn len(await s.list())", 0),
    "snake case is found": ("s.put('a', 1)\nawait s.delete_all()\nreturn await s.get('a')", None),
    "sync": ("s.put('a', 1)\nawait s.sync()\nreturn await s.get('a')", 1),
    "kv": (
        "s.kv.put('a', {'n': 1})\ns.kv.put('b', 2)\n"
        "return [s.kv.get('a').n, s.kv.delete('b'), s.kv.get('b'), "
        "[pair for pair in s.kv.list({'prefix': 'a'})]]",
        [1, True, None, [["a", {"n": 1}]]],
    ),
    "a promise has then": (
        "s.put('a', 1)\nreturn await s.get('a').then(lambda value: value + 1)",
        2,
    ),
    "gathered": (
        "import asyncio\ns.put({'a': 1, 'b': 2})\n"
        "return await asyncio.gather(s.get('a'), asyncio.create_task(s.get('b')))",
        [1, 2],
    ),
}


@pytest.mark.parametrize(("body", "expected"), STORAGE.values(), ids=STORAGE)
async def test_storage(run: Run, body: str, expected: Any) -> None:
    """Calls in camel case and in snake case, with options as an object, a dict or keywords."""
    head, last = body.rsplit("return ", 1)
    found = await asked(run, f"s = self.ctx.storage\n{head}return {last}")
    assert found == expected


VALUES = {
    "None": ("None", None),
    "bool": ("True", True),
    "int": ("2**70", 2**70),
    "a whole float is an int": ("3.0", 3),
    "float": ("3.5", 3.5),
    "str": ("'tëxt'", "tëxt"),
    "list": ("[1, [2]]", [1, [2]]),
    "keys are texts": ("{1: 'a', True: 'b', 2.0: 'c'}", {"1": "b", "2": "c"}),
    "set": ("{1, 2}", {1, 2}),
    "Map": ("js.Map.new([['a', 1]])", {"a": 1}),
    "Set": ("js.Set.new([1])", {1}),
    "array": ("js.Array.of(1, 2)", [1, 2]),
    "object": ('js.JSON.parse(\'{"a": {"b": [1.0]}}\')', {"a": {"b": [1]}}),
    "Number": ("js.Number.new('12')", 12),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
async def test_values_are_javascripts_in_between(run: Run, value: str, expected: Any) -> None:
    """What is stored comes back as Pyodide gives it: so a program that runs here runs there."""
    body = (
        f"await self.ctx.storage.put('a', {value})\n"
        f"found = await self.ctx.storage.get('a')\n"
        f"return [found, type(found).__name__]"
    )
    found, kind = await asked(run, body)
    assert found == expected
    assert type(found) is type(expected)
    assert kind == ("JsDict" if isinstance(expected, dict) else type(expected).__name__)


async def test_bytes_come_back_as_a_memoryview_and_times_in_local_time(run: Run) -> None:
    """To the millisecond, and without a zone."""
    body = """
import datetime
at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_912, datetime.UTC)
await self.ctx.storage.put({"bytes": b"ab", "array": js.Uint8Array.new([1, 2]), "at": at,
                            "date": js.Date.new(1_000)})
found = await self.ctx.storage.get(["bytes", "array", "at", "date"])
assert isinstance(found["bytes"], memoryview) and found.bytes.tobytes() == b"ab"
assert found["array"].tolist() == [1, 2]
local = datetime.datetime.fromtimestamp(at.timestamp()).replace(microsecond=678_000)
assert found["at"] == local and found["at"].tzinfo is None
assert found["date"].timestamp() == 1
return True
"""
    assert await asked(run, body)


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("(1, 2)", "TypeError", "tuple'> cannot be sent over RPC"),
        ("[{'a': bytearray()}]", "TypeError", "bytearray'> cannot be sent over RPC"),
        ("js.RegExp.new('a')", "TypeError", "RegExp cannot be sent"),
        ("object()", "JsException", "DataCloneError: Could not serialize object of type"),
        ("1j", "JsException", "complex"),
        ("self.ctx.storage.get('a')", "TypeError", "Awaitable"),
    ],
)
async def test_what_javascript_cannot_have_is_refused(
    run: Run, value: str, kind: str, says: str
) -> None:
    """At the call, as by the SDK, and nothing is written."""
    body = f"""
try:
    self.ctx.storage.put("a", {value})
except Exception as error:
    return [type(error).__name__, str(error), await self.ctx.storage.get("a")]
"""
    found = await asked(run, body)
    assert found[0] == kind
    assert says in found[1]
    assert found[2] is None


async def test_an_error_of_the_storage_is_one_of_javascript(run: Run) -> None:
    """So `except JsException` catches it; its text is the library's."""
    body = """
try:
    await self.ctx.storage.put("k" * 3000, 1)
except JsException as error:
    return [error.name, error.message]
"""
    name, message = await asked(run, body)
    assert name == "RangeError"
    assert "Keys cannot be larger than 2048 bytes" in message


async def test_a_transaction_gives_its_own_storage(run: Run) -> None:
    """With rollback(), and the result of the closure."""
    body = """
async def keep(txn):
    await txn.put({"a": 1, "b": 2})
    return await txn.get("a")

async def drop(txn):
    txn.put("c", 3)
    txn.rollback()

found = await self.ctx.storage.transaction(keep)
await self.ctx.storage.transaction(drop)
return [found, list((await self.ctx.storage.list()).keys())]
"""
    assert await asked(run, body) == [1, ["a", "b"]]


async def test_sql_is_spelled_as_there(run: Run) -> None:
    """Rows are dicts with attributes; a cursor is read once, by one of its ways."""
    pytest.importorskip("apsw")
    body = """
sql = self.ctx.storage.sql
sql.exec("CREATE TABLE tea (id INTEGER PRIMARY KEY, name TEXT, leaf BLOB)")
sql.exec("INSERT INTO tea (name, leaf) VALUES (?, ?), (?, ?)", "oolong", b"o", "sencha", None)
rows = sql.exec("SELECT * FROM tea ORDER BY id").toArray()
assert rows[0].name == "oolong" and rows[1]["leaf"] is None
assert rows[0]["leaf"].tobytes() == b"o"
cursor = sql.exec("SELECT id, name FROM tea ORDER BY id")
assert list(cursor.columnNames) == ["id", "name"] == cursor.column_names
assert cursor.next().value.name == "oolong"
assert [row["id"] for row in cursor] == [2]
assert cursor.next().done
assert cursor.rowsRead == 2
assert [list(row) for row in sql.exec("SELECT id FROM tea").raw()] == [[1], [2]]
assert sql.exec("SELECT id FROM tea").raw().toArray().to_py() == [[1], [2]]
assert sql.exec("SELECT count(*) AS n FROM tea").one().n == 2
assert sql.exec("INSERT INTO tea (name) VALUES ('x')").rowsWritten >= 1
assert sql.databaseSize > 0
try:
    sql.exec("SELECT * FROM coffee")
except JsException as error:
    return str(error)
"""
    assert "no such table" in await asked(run, body)


async def test_a_synchronous_transaction_is_undone_as_a_whole(run: Run) -> None:
    """Keys and rows together."""
    pytest.importorskip("apsw")
    body = """
storage = self.ctx.storage
storage.sql.exec("CREATE TABLE t (n)")

def write():
    storage.sql.exec("INSERT INTO t VALUES (1)")
    storage.kv.put("a", 1)
    raise ValueError("no")

try:
    storage.transactionSync(write)
except ValueError:
    return [storage.kv.get("a"), storage.sql.exec("SELECT count(*) n FROM t").one().n]
"""
    assert await asked(run, body) == [None, 0]


CTX = """
from workers import DurableObject
import js

class Thing(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.started = []
        async def begin():
            self.started.append(await ctx.storage.get("runs") or 0)
            await ctx.storage.put("runs", self.started[0] + 1)
        ctx.blockConcurrencyWhile(begin)

    def runs(self):
        return self.started

    async def ids(self):
        ctx, env = self.ctx, self.env
        by_name = env.THINGS.idFromName("a")
        return [
            ctx.id.toString() == str(ctx.id) == by_name.toString(),
            ctx.id.equals(by_name), ctx.id == by_name, ctx.id.name,
            env.THINGS.newUniqueId().equals(ctx.id),
            env.THINGS.idFromString(by_name.toString()).equals(ctx.id),
            env.THINGS.jurisdiction("eu").id_from_name("a").equals(ctx.id),
            env.THINGS.get(by_name).id.equals(ctx.id),
            env.THINGS.getByName("a", {"locationHint": "weur"}).name,
            env.THINGS.get(env.THINGS.newUniqueId()).name,
        ]

    async def blocked(self):
        async def section():
            await self.ctx.storage.put("x", "y")
            return {"answer": 42}
        return (await self.ctx.block_concurrency_while(section))["answer"]

    def later(self):
        async def write():
            await self.ctx.storage.put("late", True)
        self.ctx.waitUntil(write())
        from workers import wait_until
        wait_until(self.ctx.storage.put("later", True))

    async def late(self):
        return len(await self.ctx.storage.get(["late", "later"]))

    async def give_up(self):
        await self.ctx.storage.put("kept", True)
        await self.ctx.storage.sync()
        self.ctx.abort("enough")

    def missing(self):
        return self.ctx.container

    def unknown(self):
        return self.ctx.nothing_such
"""


async def test_ctx(run: Run) -> None:
    """Ids, critical sections, background work; in both spellings."""
    async with run(CTX) as opened:
        thing = opened.thing
        assert await thing.runs() == [0]
        assert await thing.ids() == [True, True, True, "a", False, True, True, True, "a", None]
        assert await thing.blocked() == 42
        await thing.later()
        assert await thing.late() == 2
        await evict(thing)
        assert await thing.runs() == [1]
        with pytest.raises(
            NotImplementedError, match="container is not available here; there are no contai"
        ):
            await thing.missing()
        with pytest.raises(AttributeError, match="nothing_such"):
            await thing.unknown()


async def test_abort_resets_the_object(run: Run) -> None:
    """Its caller gets the reason, a new stub a new instance."""
    async with run(CTX) as opened:
        with pytest.raises(durable.ObjectAborted, match="enough"):
            await opened.thing.give_up()
        assert await opened.thing.runs() == [1]


ALARM = """
from workers import DurableObject
import datetime
import js

class Thing(DurableObject):
    async def set(self):
        storage = self.ctx.storage
        await storage.setAlarm({when})
        return await storage.getAlarm()

    async def alarm(self{info}):
        seen = await self.ctx.storage.get("seen") or []
        seen.append({told})
        await self.ctx.storage.put("seen", seen)
        if len(seen) == 1:
            raise ValueError("once more")

    async def seen(self):
        return await self.ctx.storage.get("seen")

    async def delete(self):
        await self.ctx.storage.deleteAlarm()
        return await self.ctx.storage.get_alarm()
"""


@pytest.mark.parametrize(
    "when",
    [
        "1_800_000_060_000",
        "1_800_000_060_000.7",
        "js.Date.new(1_800_000_060_000)",
        "datetime.datetime.fromtimestamp(1_800_000_060)",
        "datetime.datetime.fromtimestamp(1_800_000_060, datetime.UTC)",
    ],
)
async def test_an_alarm_is_set_in_milliseconds(run: Run, when: str) -> None:
    """Or by a datetime or a Date; getAlarm() returns milliseconds, or None."""
    code = ALARM.format(when=when, info="", told="True")
    async with run(code, clock=VirtualClock()) as opened:
        assert await opened.thing.set() == 1_800_000_060_000
        assert await opened.thing.delete() is None


async def test_an_alarm_rings_and_is_retried(run: Run) -> None:
    """The handler is told how often it has failed."""
    told = "[alarm.retryCount, alarm.isRetry, alarm.scheduledTime]"
    code = ALARM.format(when="1_800_000_060_000", info=", alarm", told=told)
    clock = VirtualClock()
    async with run(code, clock=clock) as opened:
        await opened.thing.set()
        await clock.advance(120)
        assert await opened.thing.seen() == [
            [0, False, 1_800_000_060_000],
            [1, True, 1_800_000_060_000],
        ]


async def test_an_alarm_of_a_class_without_a_handler_fails_when_it_rings(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """To set one is allowed, as it is there."""
    code = ALARM.format(when="1_800_000_060_000", info="", told="True")
    async with run(code.replace("def alarm", "def other"), clock=VirtualClock()) as opened:
        await opened.thing.set()
        await run_alarm(opened.thing)
    assert "Method alarm does not exist" in caplog.text


async def test_old_and_snake_case_names_of_handlers_are_found(run: Run) -> None:
    """`on_fetch` and `on_alarm`, as objects had them before."""
    code = """
    from workers import DurableObject, Response

    class Thing(DurableObject):
        async def on_fetch(self, request, env=None, ctx=None):
            return Response(request.url)

        async def on_alarm(self):
            await self.ctx.storage.put("rung", True)

        async def rung(self):
            return await self.ctx.storage.get("rung")

        async def set(self):
            await self.ctx.storage.set_alarm(1_800_000_000_000)
    """
    async with run(code) as opened:
        response = await opened.thing.fetch("https://example.com/x")
        assert await response.text() == "https://example.com/x"
        await opened.thing.set()
        await run_alarm(opened.thing)
        assert await opened.thing.rung()


RPC = """
from workers import DurableObject, Response, WorkerEntrypoint
import json

class Shared:
    def shared(self):
        return "mixed in"

class Base(DurableObject):
    async def inherited(self):
        return "inherited"

class Thing(Base, Shared):
    async def echo(self, value):
        return value

    def plain(self, a, b=2):
        return [a, b]

    @staticmethod
    def static(value):
        return value

    @classmethod
    def of_class(cls):
        return cls.__name__

    def _own(self):
        return "not for others"

    async def itself(self):
        given = {"n": 1}
        await self.change(given)
        return given["n"]

    async def change(self, given):
        given["n"] += 1

    async def call(self, fn):
        return await fn(20) + 1

    async def counter(self):
        count = 0
        def add(by):
            nonlocal count
            count += by
            return count
        return add

    async def fail(self):
        raise KeyError("lost")

    async def kinds(self, value):
        return [type(value).__name__, type(value["at"]).__name__, value.n]

    async def neighbour(self):
        return await self.env.THINGS.getByName("b").echo(self.env.THINGS.getByName("c"))

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        thing = self.env.THINGS.getByName("a")
        return Response.json(await getattr(self, request.url.rpartition("/")[2])(thing))

    async def calls(self, thing):
        return [
            await thing.inherited(), await thing.shared(), await thing.plain(1),
            await thing.plain(1, 3), await thing.static("s"), await thing.of_class(),
            await thing.itself(), await thing.echo({"a": None}), await thing.echo(value=1),
        ]

    async def functions(self, thing):
        counter = await thing.counter()
        return [await thing.call(lambda n: n * 2), await counter(2), await counter(3)]

    async def failures(self, thing):
        from pyodide.ffi import JsException
        told = []
        for name in ["fail", "_own", "missing", "fetch_it"]:
            try:
                await getattr(thing, name)()
            except Exception as error:
                told.append([type(error).__name__, str(error).strip().splitlines()[-1]])
        return told

    async def by_reference(self, thing):
        other = await thing.neighbour()
        return [other.name, await other.echo(7), (await thing.echo(thing.id)).equals(thing.id)]

    async def received(self, thing):
        import datetime
        return await thing.kinds({"at": datetime.datetime.now(), "n": 1})
"""


async def test_methods_are_called_through_stubs(run: Run) -> None:
    """Own, inherited and mixed in, asynchronous or not. What an object calls of itself is not
    copied. Keywords become an object at the end, as they do for JavaScript."""
    async with run(RPC) as opened:
        assert json.loads(await opened.text("/calls")) == [
            *("inherited", "mixed in", [1, 2], [1, 3], "s", "Thing", 2, {"a": None}),
            {"value": 1},
        ]


async def test_functions_cross_both_ways(run: Run) -> None:
    """They run where they come from."""
    async with run(RPC) as opened:
        assert json.loads(await opened.text("/functions")) == [41, 2, 5]


async def test_an_exception_of_an_object_crosses_as_its_text(run: Run) -> None:
    """As Python's exceptions do there: with the traceback, and not as their class."""
    async with run(RPC) as opened:
        assert json.loads(await opened.text("/failures")) == [
            ["JsException", "KeyError: 'lost'"],
            ["AttributeError", "_own"],
            [
                "JsTypeError",
                'TypeError: The RPC receiver does not implement the method "missing".',
            ],
            [
                "JsTypeError",
                'TypeError: The RPC receiver does not implement the method "fetch_it".',
            ],
        ]


async def test_stubs_and_ids_cross_by_reference(run: Run) -> None:
    async with run(RPC) as opened:
        assert json.loads(await opened.text("/by_reference")) == ["c", 7, True]


async def test_an_object_gets_values_of_python(run: Run) -> None:
    """Whoever calls it: a program of the library's too."""
    async with run(RPC) as opened:
        assert json.loads(await opened.text("/received")) == ["JsDict", "datetime", 1]
        at = datetime.datetime.now(datetime.UTC)
        assert await opened.thing.kinds({"at": at, "n": 1.0}) == ["JsDict", "datetime", 1]


async def test_a_stub_takes_urls_and_requests(run: Run) -> None:
    """With options as keywords of Python, or as an object of JavaScript."""
    code = """
    from workers import DurableObject, Request, Response, WorkerEntrypoint
    from pyodide.ffi import to_js
    import js

    class Thing(DurableObject):
        async def fetch(self, request):
            kind = type(request).__name__, str(request.method)
            header = request.headers.get("x-a")
            return Response.json([*kind, request.url, header, await request.text()])

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            thing = self.env.THINGS.getByName("a")
            init = to_js({"method": "PUT", "body": "b"}, dict_converter=js.Object.fromEntries)
            answers = [
                await thing.fetch("http://x/1"),
                await thing.fetch("http://x/2", method="POST", headers={"x-a": "1"}, body="b"),
                await thing.fetch("http://x/3", init),
                await thing.fetch(Request("http://x/4", method="POST", body=b"bytes")),
                await thing.fetch(js.Request.new("http://x/5", headers=[("x-a", "2")])),
                await thing.fetch(js.URL.new("/6", "http://x")),
                await thing.fetch(request),
            ]
            try:
                await thing.fetch("nowhere")
            except TypeError as error:
                wrong = str(error)
            except Exception as error:
                wrong = str(error)
            return Response.json([*[await each.json() for each in answers], wrong])
    """
    async with run(code) as opened:
        found = json.loads(await opened.text("/7", method="POST", body="seven"))
    assert found[:-1] == [
        ["Request", "GET", "http://x/1", None, ""],
        ["Request", "POST", "http://x/2", "1", "b"],
        ["Request", "PUT", "http://x/3", None, "b"],
        ["Request", "POST", "http://x/4", None, "bytes"],
        ["Request", "GET", "http://x/5", "2", ""],
        ["Request", "GET", "http://x/6", None, ""],
        ["Request", "POST", "https://example.com/7", None, "seven"],
    ]
    assert "Invalid URL" in found[-1]


async def test_a_handler_must_return_a_response(run: Run) -> None:
    code = """
    from workers import DurableObject

    class Thing(DurableObject):
        async def fetch(self, request):
            return "text"
    """
    async with run(code) as opened:
        with pytest.raises(TypeError, match="the handler must return a Response, not str"):
            await opened.thing.fetch("https://example.com")


async def test_what_an_object_stores_is_kept_over_a_restart(run: Run) -> None:
    """In `.durable` beside the configuration, or where `path` says."""
    async with run(CTX) as opened:
        assert await opened.thing.runs() == [0]
        assert opened.opener.folder.endswith(".durable")
    async with run(CTX) as opened:
        assert await opened.thing.runs() == [1]
    async with run(CTX, CONFIG.replace('name = "it"', 'name = "it"\npath = "other"')) as opened:
        assert await opened.thing.runs() == [0]
        assert opened.opener.folder.endswith("other")


async def test_the_gates_hold_for_workers_too(run: Run) -> None:
    """What is read, computed and written needs no lock; methods may be called as a stub's own."""
    code = """
    import asyncio
    from workers import DurableObject, Response, WorkerEntrypoint

    class Thing(DurableObject):
        async def count(self):
            value = await self.ctx.storage.get("value") or 0
            await self.ctx.storage.put("value", value + 1)
            return value + 1

        def call(self, value):
            return ["call", value]

        def rpc(self):
            return "rpc"

        async def abort(self):
            self.ctx.storage.put("value", -1)
            self.ctx.abort()

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            thing = self.env.THINGS.getByName("a")
            counts = await asyncio.gather(*[thing.count() for _ in range(50)])
            try:
                await thing.abort()
            except Exception as error:
                reset = error.durableObjectReset
            thing = self.env.THINGS.getByName("a")
            return Response.json([max(counts), reset, await thing.call(1), await thing.rpc(),
                                  await thing.count()])
    """
    async with run(code) as opened:
        assert json.loads(await opened.text()) == [50, True, ["call", 1], "rpc", 51]
