"""Requests, responses, forms, blobs and streams, of `workers` and of `js`."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from http import HTTPMethod, HTTPStatus
from typing import Any

import pytest

import durable
from durable.workers import installed
from durable.workers.sdk_messages import response_sent

from .conftest import Run

pytestmark = pytest.mark.backends("asyncio")

PLAIN = 'name = "it"\nmain = "worker.py"\n'


@pytest.fixture
def sdk() -> Iterator[Any]:
    with installed():
        import js  # type: ignore[import-not-found]
        import workers  # type: ignore[import-not-found]
        from pyodide.ffi import JsException, to_js  # type: ignore[import-not-found]

        class Names:
            pass

        names: Any = Names()
        names.js, names.to_js, names.JsException = js, to_js, JsException
        for name in ("Request", "Response", "FormData", "Blob", "File", "fetch", "handler"):
            setattr(names, name, getattr(workers, name))
        yield names


async def test_a_request_is_made_of_python(sdk: Any) -> None:
    """Its url is a str, its method an HTTPMethod, its headers a copy by names without case."""
    request = sdk.Request(
        "https://Example.com", method=HTTPMethod.POST, headers={"A-b": 5}, body="hello"
    )
    assert repr(request) == "Request(method='POST', url='https://example.com/')"
    assert request.method == "POST"
    assert request.method is HTTPMethod.POST
    assert request.headers["a-B"] == request.headers.get("A-B") == "5"
    assert "x" not in request.headers
    assert request.headers.get_all("a-b") == ["5"]
    assert request.cf is None
    assert sdk.Request("https://x", cf={"colo": "A"}).cf == {"colo": "A"}
    copy = request.clone()
    assert not request.body_used
    assert await request.text() == "hello"
    assert request.body_used
    assert await copy.bytes() == b"hello"
    with pytest.raises(OSError, match="Body already used"):
        await request.json()
    with pytest.raises(OSError, match="Body already used"):
        request.clone()
    with pytest.raises(TypeError, match="unexpected type for headers"):
        sdk.Request("https://x", headers=5)
    with pytest.raises(ValueError, match="Expected no options"):
        sdk.Request(sdk.js.Request.new("https://x"), method="PUT")
    for name in ("cache", "credentials", "mode", "destination", "integrity", "referrer_policy"):
        assert isinstance(getattr(request, name), str)
    assert (request.redirect, request.keepalive) == ("follow", False)


async def test_headers_of_one_name_are_joined_but_cookies(sdk: Any) -> None:
    pairs = [("a", "1"), ("a", "2"), ("Set-Cookie", "b=1"), ("Set-Cookie", "c=2")]
    headers = sdk.Response("x", headers=pairs).headers
    assert headers.get_all("a") == ["1, 2"]
    assert headers.get_all("set-cookie") == ["b=1", "c=2"]


RESPONSES = {
    "str": ("text", "text/plain;charset=UTF-8", b"text"),
    "bytes": (b"bytes", None, b"bytes"),
    "None": (None, None, b""),
}


@pytest.mark.parametrize(("body", "kind", "content"), RESPONSES.values(), ids=RESPONSES)
async def test_a_response_is_made_of_python(
    sdk: Any, body: Any, kind: str | None, content: bytes
) -> None:
    sent = response_sent(sdk.Response(body, status=HTTPStatus.CREATED))
    assert isinstance(sent, durable.Response)
    assert (sent.status, sent.headers.get("content-type")) == (201, kind)
    assert await sent.bytes() == content


async def test_a_response_tells_of_itself(sdk: Any) -> None:
    response = sdk.Response("a", status=201, status_text="Made")
    assert (response.status, response.status_text, response.ok) == (201, "Made", True)
    other = response.replace_body("b")
    assert (other.status, other.status_text, await other.text()) == (201, "Made", "b")
    assert repr(sdk.Response.json([1])) == (
        "Response(status=200, status_text='OK', content_type='application/json')"
    )
    copy = response.clone()
    assert await response.text() == await copy.string() == "a"
    assert sdk.Response(None, status=204).body is None
    with pytest.raises(OSError, match="404 Not Found"):
        sdk.Response("", status=404).raise_for_status()
    sdk.Response("").raise_for_status()
    assert sdk.Response(sdk.js.Response.new("of js")).status == 200
    for wrong in (5, {"a": 1}, [1], sdk.js.Array.of(1)):
        with pytest.raises(TypeError, match="Unsupported type in Response"):
            sdk.Response(wrong)
    with pytest.raises(ValueError, match="Expected no options"):
        sdk.Response(sdk.js.Response.new("a"), status=201)


async def test_json_both_ways(sdk: Any) -> None:
    """`Response.json` of the class makes one, of a response reads one."""
    made = sdk.Response.json({"a": [1]}, status=HTTPStatus.ACCEPTED, headers={"x": "y"})
    assert (made.status, made.headers["x"]) == (202, "y")
    assert made.headers["content-type"] == "application/json"
    assert await made.json() == {"a": [1]}
    own = sdk.Response.from_json([1], headers={"Content-Type": "text/x"})
    assert own.headers["content-type"] == "text/x"
    of_js = sdk.Response.json(sdk.js.JSON.parse('{"a": 1}'))
    assert await of_js.text() == '{"a":1}'
    with pytest.raises(TypeError, match="not JSON serializable"):
        sdk.Response.json({1, 2})
    js_made = sdk.js.Response.json(sdk.to_js([1, 2]), status=201)
    assert js_made.headers.get("content-type") == "application/json"
    assert (await js_made.json()).to_py() == [1, 2]


async def test_redirects(sdk: Any) -> None:
    redirect = sdk.Response.redirect("https://x/y", status=HTTPStatus.MOVED_PERMANENTLY)
    sent = response_sent(redirect)
    assert (sent.status, sent.headers["location"]) == (301, "https://x/y")
    with pytest.raises(ValueError, match="502"):
        sdk.Response.redirect("https://x", HTTPStatus.BAD_GATEWAY)
    with pytest.raises(TypeError):
        sdk.Response.redirect("nowhere")


async def test_bodies_of_javascript(sdk: Any) -> None:
    js = sdk.js
    for body, content in {
        "buffer": (js.Uint8Array.new([65, 66]), b"AB"),
        "blob": (js.Blob.new(["AB"], type="text/x"), b"AB"),
        "query": (js.URLSearchParams.new({"a": "b"}), b"a=b"),
    }.values():
        assert await js.Response.new(body)._message.bytes() == content
        assert await sdk.Response(body).bytes() == content
    assert js.Response.new(js.Blob.new([], type="text/x")).headers.get("content-type") == "text/x"
    response = js.Response.new(b"ab")
    assert (await response.clone().arrayBuffer()).byteLength == 2
    assert (await (await response.clone().blob()).text()) == "ab"
    assert not response.bodyUsed
    assert (await response.bytes()).to_bytes() == b"ab"
    with pytest.raises(sdk.JsException, match="already been used"):
        await response.text()


async def test_forms(sdk: Any) -> None:
    """Fields, files, several of one name; as multipart and as a query."""
    form = sdk.FormData({"a": "1"})
    form.append("a", "2")
    form["file"] = sdk.File(b"\r\n\x00--", 'näme "x".bin', content_type="application/x")
    form.append("blob", sdk.Blob(["te", b"xt"], content_type="text/plain"), filename="b.txt")
    response = sdk.Response(form)
    assert response.headers["content-type"].startswith("multipart/form-data; boundary=")
    read = await response.form_data()
    assert read["a"] == "1"
    assert read.get_all("a") == ["1", "2"]
    assert list(read.keys()) == ["a", "a", "file", "blob"]
    assert len(read) == 4
    assert "a" in read
    assert "x" not in read
    assert (read["file"].name, read["file"].content_type) == ('näme "x".bin', "application/x")
    assert await read["file"].bytes() == b"\r\n\x00--"
    assert (read["blob"].name, await read["blob"].text()) == ("b.txt", "text")
    assert [type(value).__name__ for value in read.values()] == ["str", "str", "File", "File"]
    assert [name for name, _ in read.items()] == list(read)

    request = sdk.Request("https://x", method="POST", body=sdk.js.URLSearchParams.new("a=1&b=%20"))
    assert dict((await request.form_data()).items()) == {"a": "1", "b": " "}
    old = await sdk.Response(sdk.FormData({"x": "y"})).formData()
    old["x"] = "z"
    old.delete("none")
    assert old.js_object.get("x") == "z"
    del old["x"]
    assert not len(old)
    with pytest.raises(TypeError, match="Unrecognized Content-Type"):
        await sdk.Response("text").form_data()
    with pytest.raises(TypeError, match="single item"):
        old["x"] = ["a"]
    with pytest.raises(TypeError, match="Expected form_data"):
        sdk.FormData(5)


async def test_blobs(sdk: Any) -> None:
    blob = sdk.Blob(["some ", b"te", memoryview(b"xt")], content_type="text/x")
    assert (blob.size, blob.content_type, await blob.text()) == (9, "text/x", "some text")
    assert await blob.slice(1, 3).bytes() == b"om"
    assert sdk.Blob(blob).content_type == "text/x"
    assert sdk.Blob([blob]).content_type == ""
    file = sdk.File(blob, "f.txt", last_modified=5)
    assert (file.name, file.last_modified, file.content_type) == ("f.txt", 5, "text/x")
    assert sdk.File(file, "g").last_modified == 5
    assert sdk.File("a", "h").last_modified > 5
    assert (await (await sdk.Response("a").blob()).text()) == "a"
    with pytest.raises(TypeError, match="Don't know how to handle"):
        sdk.Blob([5])


STREAMS = """
from workers import Response, WorkerEntrypoint
from pyodide.ffi import create_proxy, to_js
import asyncio
import js

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = request.url.rpartition("/")[2]
        return await getattr(self, name)(request)

    async def pipe(self, request):
        stream = js.TransformStream.new()
        writer = stream.writable.getWriter()
        async def write():
            for n in range(30):
                await writer.write(to_js(f"{n} ".encode()))
            await writer.close()
        self.ctx.waitUntil(write())
        return Response(stream.readable)

    async def source(self, request):
        def start(controller):
            controller.enqueue(to_js(b"started "))
        pulls = []
        async def pull(controller):
            pulls.append(1)
            if len(pulls) == 3:
                controller.close()
            else:
                controller.enqueue(js.Uint8Array.new(b"pulled "))
        made = js.ReadableStream.new({"start": create_proxy(start), "pull": create_proxy(pull)})
        return Response(made, headers={"content-type": "text/plain"})

    async def reader(self, request):
        reader = request.body.getReader()
        read = []
        while True:
            step = await reader.read()
            if step.done:
                return Response.json([read, request.body_used])
            read.append(step.value.to_bytes().decode())

    async def tee(self, request):
        one, two = request.body.tee()
        first = b"".join([chunk.to_bytes() async for chunk in one])
        return Response(two, headers={"first": first.decode()})

    async def onward(self, request):
        answer = await self.env.SELF.fetch("https://it/source")
        return Response(answer.body, status=201)

    async def twice(self, request):
        request.body.getReader()
        try:
            request.body.getReader()
        except Exception as error:
            return Response(str(error))

    async def broken(self, request):
        def start(controller):
            controller.enqueue(b"a")
            controller.error("no more")
        return Response(js.ReadableStream.new(start=start))
"""


async def test_streams(run: Run) -> None:
    """Bodies are made chunk by chunk, read so, handed on and doubled."""
    config = PLAIN + 'services = [{ binding = "SELF", service = "it" }]\n'
    async with run(STREAMS, config) as opened:
        assert (await opened.text("/pipe")).split() == [str(n) for n in range(30)]
        assert await opened.text("/source") == "started pulled pulled "
        body = {"method": "POST", "body": "hello"}
        assert json.loads(await opened.text("/reader", **body)) == [["hello"], True]
        doubled = await opened.get("/tee", **body)
        assert (await doubled.text(), doubled.headers["first"]) == ("hello", "hello")
        onward = await opened.get("/onward")
        assert (onward.status, await onward.text()) == (201, "started pulled pulled ")
        assert "locked to a reader" in await opened.text("/twice", **body)
        broken = await opened.get("/broken")
        with pytest.raises(Exception, match="no more"):
            await broken.text()


@pytest.fixture
def outside() -> Iterator[str]:
    """A server of the world, that tells what it was sent."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("location", "/there")
                self.end_headers()
                return
            size = int(self.headers.get("content-length", 0))
            told = [self.command, self.path, self.rfile.read(size).decode(), self.headers["x-a"]]
            content = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.send_header("x-b", "c")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_fetch_goes_to_the_outside(sdk: Any, outside: str) -> None:
    """By an HTTP client that is installed; of `workers` for Python, of `js` for JavaScript."""
    response = await sdk.fetch(f"{outside}/x", method="POST", body="b", headers={"x-a": "y"})
    assert await response.json() == ["POST", "/x", "b", "y"]
    assert (response.headers["x-b"], response.url) == ("c", f"{outside}/x")
    assert await (await sdk.fetch(sdk.Request(outside))).json() == ["GET", "/", "", None]
    assert (await sdk.fetch(f"{outside}/away", redirect="manual")).status == 302
    assert (await (await sdk.fetch(f"{outside}/away")).json())[1] == "/there"
    of_js = await sdk.js.fetch(outside, sdk.js.Object.new(method="POST"))
    assert (await of_js.json())[0] == "POST"
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        sdk.fetch(outside, {"method": "POST"})
    with pytest.raises(OSError, match="cannot be fetched"):
        await sdk.fetch("http://127.0.0.1:1/")
    with pytest.raises(sdk.JsException, match="cannot be fetched"):
        await sdk.js.fetch("http://127.0.0.1:1/")
    own = await sdk.fetch("https://x", fetcher=sdk.js.Promise.resolve)
    assert own == "https://x"


async def test_an_object_is_heard_outside_when_its_writes_are_on_disk(
    run: Run, outside: str
) -> None:
    """What it has written is confirmed before the request leaves."""
    from durable.testing import run_in_object

    code = """
    from workers import DurableObject, fetch

    class Thing(DurableObject):
        async def tell(self, url):
            self.ctx.storage.put("told", True)
            return await (await fetch(url)).json()
    """
    async with run(code) as opened:
        assert (await opened.thing.tell(outside))[0] == "GET"

        async def kept(thing: Any, ctx: durable.State) -> bool:
            return bool(await ctx.storage.get("told"))

        assert await run_in_object(opened.thing, kept)


async def test_handlers_of_the_old_style(run: Run) -> None:
    """They get JavaScript's request, or with `handler` Python's; as many arguments as they take."""
    plain = """
    from js import Response, URL
    async def on_fetch(request, env):
        url = URL.new(request.url)
        return Response.new(f"{request.method} {url.pathname} {env.NAME}",
                            headers={"x-type": request.constructor.name})
    """
    config = PLAIN + 'vars.NAME = "n"\n'
    async with run(plain, config) as opened:
        response = await opened.get("/a")
        assert (await response.text(), response.headers["x-type"]) == ("GET /a n", "Request")
    wrapped = """
    from workers import Response, handler
    @handler
    async def on_fetch(request, env, ctx):
        ctx.waitUntil(nothing())
        return Response(f"{type(request).__name__} {request.url} {env.NAME}")
    async def nothing():
        pass
    """
    async with run(wrapped, config) as opened:
        assert await opened.text("/a") == "Request https://example.com/a n"
