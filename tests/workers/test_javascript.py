"""What programs import of JavaScript: its values as Python sees them, and its globals."""

from __future__ import annotations

import asyncio
import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

from durable.workers import installed

pytestmark = pytest.mark.backends("asyncio")


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    with installed():
        yield


def made(expression: str) -> Any:
    """What the expression is, where the modules are at hand."""
    names: dict[str, Any] = {}
    exec("import js\nfrom pyodide.ffi import *\nfrom pyodide.ffi import jsnull", names)
    return eval(expression, names)


EXPRESSIONS = {
    "to_js([1, (2, 3)]).to_py()": [1, [2, 3]],
    "to_js({'a': {'b': 1}}).to_py()": {"a": {"b": 1}},
    "to_js({'a': {'b': 1}}).get('a').get('b')": 1,
    "to_js({'a': {'b': 1}}, dict_converter=js.Object.fromEntries).a.b": 1,
    "to_js({1: 2}, dict_converter=js.Object.fromEntries).to_py()": {"1": 2},
    "to_js({1, 2}).size": 2,
    "to_js(b'ab').to_bytes()": b"ab",
    "to_js([[1]], depth=1)[0]": [1],
    "to_js(None) is None and to_js('a')": "a",
    "to_js(object, default_converter=lambda v, c, k: c([1])).to_py()": [1],
    "to_js(5, eager_converter=lambda v, c, k: 'five')": "five",
    "isinstance(to_js([]), JsProxy)": True,
    "create_proxy(len)([1, 2])": 2,
    "create_proxy(len).unwrap() is len": True,
    "create_once_callable(len)([1])": 1,
    "bool(jsnull), str(jsnull)": (False, "jsnull"),
    "js.undefined is None": True,
    "js.Object.new(a=1).a": 1,
    "js.Object.fromEntries([['a', 1]]).object_keys().to_py()": ["a"],
    "js.Object.keys(js.Object.new(a=1, b=2)).to_py()": ["a", "b"],
    "js.Object.entries(js.Object.new(a=1)).to_py()": [["a", 1]],
    "js.Object.assign(js.Object.new(), js.Object.new(a=1)).to_py()": {"a": 1},
    "js.Object.new(a=1).as_object_map()": {"a": 1},
    "js.Array.of(1, 2, 3).slice(1).to_py()": [2, 3],
    "js.Array.of(1, 2).concat([3], 4).to_py()": [1, 2, 3, 4],
    "js.Array.of(1, 2).map(lambda n: n * 2).join('-')": "2-4",
    "js.Array.of(1, 2).includes(2)": True,
    "js.Array.of('a').indexOf('b')": -1,
    "js.Array.of(1, 2)[-1]": 2,
    "js.Array.isArray(js.Array.new())": True,
    "str(js.Array.of(1, None, True))": "1,,true",
    "js.Map.new([[1, 'a']]).to_py()": {1: "a"},
    "js.Map.new([['a', 1]]).entries().to_py()": [["a", 1]],
    "js.Set.new([1, 1]).size": 1,
    "js.JSON.stringify(to_js({'a': [1, None, True]}, dict_converter=js.Object.fromEntries))": (
        '{"a":[1,null,true]}'
    ),
    "js.JSON.stringify({'a': 1.0, 'b': 'ü', 'c': float('nan')})": '{"a":1,"b":"ü","c":null}',
    "js.JSON.stringify(js.Date.new(0))": '"1970-01-01T00:00:00.000Z"',
    "js.JSON.stringify(js.Object.new(a=1), None, 2)": '{\n  "a": 1\n}',
    "js.JSON.stringify([js.URL.new('http://x'), jsnull])": '["http://x/",null]',
    'js.JSON.parse(\'{"a": [1, {"b": 2.0}]}\').a[1].b': 2,
    "js.JSON.parse('[1.5, null]').to_py()": [1.5, None],
    "js.Date.new(1000).toISOString()": "1970-01-01T00:00:01.000Z",
    "js.Date.new('2026-01-02T03:04:05Z').getTime()": 1_767_323_045_000,
    "js.Date.new(2026, 0, 2).getUTCDate()": 2,
    "js.Date.UTC(2026, 0, 2)": 1_767_312_000_000,
    "str(js.Date.new(0))": "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
    "abs(js.Date.now() - __import__('time').time() * 1000) < 1000": True,
    "len(js.crypto.randomUUID())": 36,
    "sum(js.crypto.getRandomValues(js.Uint8Array.new(64))) > 0": True,
    "js.Uint8Array.new([1, 300, -1]).to_py().tolist()": [1, 44, 255],
    "list(js.Int16Array.of('10', -2))": [10, -2],
    "js.Float32Array.new(to_js([1.5])).byteLength": 4,
    "list(js.Uint8ClampedArray.of(300, -2, 1.5, 2.5, float('nan')))": [255, 0, 2, 2, 0],
    "js.Uint8Array.new(js.ArrayBuffer.new(8), 2, 3).length": 3,
    "js.Uint8Array.new(to_js([1, 2, 3])).subarray(1).to_bytes()": b"\x02\x03",
    "js.Uint8Array.new(to_js([1, 2])).buffer.byteLength": 2,
    "js.DataView.new(js.ArrayBuffer.new(16)).byteLength": 16,
    "js.ArrayBuffer.new(4).slice(1).byteLength": 3,
    "js.TextEncoder.new().encode('ü').to_bytes()": b"\xc3\xbc",
    "js.TextDecoder.new().decode(js.Uint8Array.new([195, 188]))": "ü",
    "js.atob(js.btoa('a'))": "a",
    "js.structuredClone(to_js({'a': b'b'}, dict_converter=js.Object.fromEntries)).a.to_bytes()": (
        b"b"
    ),
    "js.Error.new('why').message": "why",
    "str(js.TypeError.new('why'))": "TypeError: why",
    "js.Number.new('12').valueOf()": 12,
    "js.URL.new('https://User@Example.com:443/a b?x=1&x=2#h').host": "example.com",
    "js.URL.new('../c', 'https://x/a/b').href": "https://x/c",
    "js.URL.new('https://x/?a=1&b=2').searchParams.get('b')": "2",
    "js.URL.new('https://x:8080/p').port": "8080",
    "js.URL.new('https://x/p?q#f').search + js.URL.new('https://x/p?q#f').hash": "?q#f",
    "js.URL.new('https://x').origin + js.URL.new('https://x').pathname": "https://x/",
    "js.URL.canParse('nowhere')": False,
    "str(js.URLSearchParams.new({'a': 'b c'}))": "a=b+c",
    "js.URLSearchParams.new('a=1&a=2').getAll('a').to_py()": ["1", "2"],
    "js.Headers.new({'A': 1, 'b': True}).entries().to_py()": [["a", "1"], ["b", "true"]],
    "js.Headers.new([['a', '1'], ['A', '2']]).get('a')": "1, 2",
    "js.Headers.new([['Set-Cookie', 'a=b'], ['Set-Cookie', 'c=d']]).getSetCookie().to_py()": [
        "a=b",
        "c=d",
    ],
    "js.Headers.new({'a': 'b'}).has('A')": True,
    "js.Headers.new(js.Headers.new(a='b'))['a']": "b",
    "js.WebSocketPair.new().object_values().length": 2,
    "len(js.WebSocketPair.new())": 2,
    "js.Request.new('http://x').constructor.name": "Request",
    "js.Response.new('a').statusText": "OK",
    "hasattr('text', 'constructor')": False,
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_and_globals(expression: str) -> None:
    """As a program of Cloudflare's finds them."""
    assert made(expression) == EXPRESSIONS[expression]


REFUSED = {
    "js.URL.new('nowhere')": "Invalid URL string",
    "js.Headers.new(5)": "headers must be an object or a list of pairs",
    "js.Response.redirect('http://x', 200)": "200 is not a redirect status code",
    "js.JSON.parse('{')": "SyntaxError",
    "js.Object.keys(5)": "an object is needed here",
    "js.Response.new('a', status=99)": "RangeError",
    "js.Request.new('http://x', body='b')": "GET or HEAD",
    "js.WebSocket.new('http://x')": "ws:// or wss://",
    "js.Uint8Array.new(None)": "a typed array is made of",
    "js.Blob.new([], 5)": "the options must be an object",
    "js.structuredClone(js.Request)": "DataCloneError",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_wrong_is_an_error_of_javascript(expression: str) -> None:
    with pytest.raises(importlib.import_module("pyodide.ffi").JsException) as caught:
        made(expression)
    assert REFUSED[expression] in str(caught.value)


def test_attributes_of_objects() -> None:
    """They are set and deleted; one that is not there is an AttributeError, as for Python."""
    js = importlib.import_module("js")
    thing = js.Object.new()
    thing.a = [1]
    assert thing.to_py() == {"a": [1]}
    del thing.a
    with pytest.raises(AttributeError):
        thing.a
    url = js.URL.new("https://x/a?b=c")
    url.pathname, url.hostname, url.hash = "/d", "y", "h"
    url.searchParams.set("b", 5)
    url.searchParams.append("e", "f")
    url.searchParams.delete("nothing")
    assert str(url) == "https://y/d?b=5&e=f#h"
    headers = js.Headers.new()
    headers.set("a", "b")
    headers.append("a", "c")
    headers.delete("x")
    assert [list(pair) for pair in headers] == [["a", "b, c"]]


def test_the_console_prints() -> None:
    js = importlib.import_module("js")
    out = io.StringIO()
    with redirect_stdout(out):
        js.console.log("a", 1, True, None, js.Array.of({"b": 1}))
        js.console.info("i")
        js.console.debug("d")
    assert out.getvalue() == 'a 1 true undefined [{"b": 1}]\ni\nd\n'


async def test_timers() -> None:
    js = importlib.import_module("js")
    seen: list[Any] = []
    js.setTimeout(seen.append, 1, "a")
    js.clearTimeout(js.setTimeout(seen.append, 1, "never"))
    ticking = js.setInterval(lambda: seen.append("tick"), 1)
    js.queueMicrotask(lambda: seen.append("soon"))
    while seen.count("tick") < 3 or "a" not in seen:
        await asyncio.sleep(0.001)
    js.clearInterval(ticking)
    await js.scheduler.wait(1)
    assert seen[0] == "soon"
    assert "never" not in seen


async def test_promises() -> None:
    js = importlib.import_module("js")
    ffi = importlib.import_module("pyodide.ffi")
    promise = js.Promise
    assert await promise.resolve(1).then(lambda n: n + 1) == 2
    assert (await promise.all([promise.resolve(1), asyncio.sleep(0, 2)])).to_py() == [1, 2]
    caught = await promise.reject(js.Error.new("no")).catch(lambda error: error.message)
    assert caught == "no"
    with pytest.raises(ffi.JsException, match="no"):
        await promise.reject(js.Error.new("no")).then(lambda n: n)
    ended: list[bool] = []
    assert await promise.resolve(1).finally_(lambda: ended.append(True)) == 1
    assert ended == [True]


def test_values_cross_as_the_sdk_has_them_cross() -> None:
    """`python_to_rpc` and `python_from_rpc`, for programs that call them."""
    workers, js = importlib.import_module("workers"), importlib.import_module("js")
    sent = workers.python_to_rpc({"a": [1, None], "b": b"c"})
    assert (sent.a.to_py(), sent.b.to_bytes()) == ([1, None], b"c")
    back = workers.python_from_rpc(sent)
    assert (back.a, bytes(back["b"])) == ([1, None], b"c")
    assert workers.python_from_rpc(js.Array.of(js.Date.new(5)))[0].timestamp() == 0.005
    back.x = 1
    assert back["x"] == 1
    with pytest.raises(AttributeError):
        back.nothing


def test_modules_of_cloudflare_are_imported_by_their_names() -> None:
    workers = importlib.import_module("workers")
    module = workers.import_from_javascript("cloudflare:workers")
    assert module.env is workers.env
    with pytest.raises(ImportError, match="cloudflare:sockets"):
        workers.import_from_javascript("cloudflare:sockets")
    with pytest.raises(NotImplementedError, match="while a Worker runs"):
        workers.env.ANYTHING
    with pytest.raises(NotImplementedError, match="while a Worker runs"):
        workers.wait_until(asyncio.sleep(0).close())
    assert sys.modules["pyodide"].__version__
