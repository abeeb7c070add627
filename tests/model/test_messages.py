"""Requests and responses: what they take, what they refuse, and that a body is read once."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

import durable
from durable._model import messages
from durable._model.messages import Request, Response

pytestmark = pytest.mark.backends("asyncio", "trio")


async def chunks(*parts: Any) -> AsyncIterator[Any]:
    for part in parts:
        yield part


def post(body: Any = None, **options: Any) -> Request:
    return Request("https://object/x", method="POST", body=body, **options)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://counter/increment",
        "http://x",
        "https://x?q=1#f",
        "https://x:8080/a%20b?c=d",
        "ws://example.com/socket",
        "custom+scheme://host/x",
        "https://user:secret@host/",
        "http://[::1]:80/",
        "https://bücher.example/ü ü",
        URL("https://x/y"),
    ],
)
def test_an_absolute_url_is_taken(url: Any) -> None:
    """As a str or a yarl.URL; `url` is the yarl.URL of it."""
    assert Request(url).url == URL(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/increment",
        "counter/increment",
        "//counter/increment",
        "https:///increment",
        "https:counter",
        "mailto:somebody",
        "http://[::1/",
        "http://x:99999/",
        "http://x:port/",
        URL("/increment"),
    ],
)
def test_any_other_url_is_refused_at_the_call(url: Any) -> None:
    """In the words that Cloudflare's runtime has for it, and with what to write instead."""
    with pytest.raises(TypeError, match=r"^Fetch API cannot load: ") as caught:
        Request(url)

    assert str(url) in str(caught.value)
    assert "https://object/path" in str(caught.value)


@pytest.mark.parametrize("url", [None, 5, b"https://x/"])
def test_a_url_is_a_str_or_a_yarl_url(url: Any) -> None:
    """Bytes are no URL either."""
    with pytest.raises(TypeError, match=r"str or a yarl\.URL"):
        Request(url)


@given(st.from_regex(messages._is_plain_url.__self__, fullmatch=True))
def test_a_url_taken_unparsed_is_one_that_parses(url: str) -> None:
    """What is let through without a look cannot fail later, when somebody asks for it."""
    parsed = Request(url).url

    assert parsed.absolute
    assert parsed.host


# Methods


@pytest.mark.parametrize(
    ("given_method", "method"),
    [("get", "GET"), ("Post", "POST"), ("patch", "PATCH"), ("PURGE", "PURGE"), ("purge", "purge")],
)
def test_well_known_methods_are_upper_cased(given_method: str, method: str) -> None:
    """Others are taken as they are, as on the web."""
    assert Request("https://x/", method=given_method).method == method


@pytest.mark.parametrize("method", ["", "G T", "GET\r\n", "é", 5])
def test_a_method_is_a_token(method: Any) -> None:
    """Anything else is refused at the call."""
    with pytest.raises(TypeError, match="method"):
        Request("https://x/", method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "get"])
@pytest.mark.parametrize("body", ["x", b"", ""])
def test_get_and_head_have_no_body(method: str, body: Any) -> None:
    """Not even an empty one."""
    with pytest.raises(TypeError, match="Request with a GET or HEAD method cannot have a body"):
        Request("https://x/", method=method, body=body)


# Headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "1"},
        [("X-One", "1")],
        iter([("X-One", "1")]),
        CIMultiDict({"X-One": "1"}),
    ],
)
def test_headers_are_copied_and_found_without_case(headers: Any) -> None:
    """From a mapping, from pairs, or from another multidict."""
    request = Request("https://x/", headers=headers)
    if isinstance(headers, dict | CIMultiDict):
        headers["x-two"] = "2"

    assert request.headers == CIMultiDict({"x-one": "1"})


def test_a_header_may_come_more_than_once() -> None:
    """A mapping with several values for a name keeps them all."""
    headers = CIMultiDict([("set-cookie", "a"), ("set-cookie", "b")])

    assert Response(headers=headers).headers.getall("Set-Cookie") == ["a", "b"]


def test_headers_given_to_nobody_can_still_be_set() -> None:
    """The multidict is the message's own from the first look."""
    response = Response()
    response.headers["x-one"] = "1"

    assert response.headers["X-One"] == "1"


def test_header_values_lose_the_space_around_them() -> None:
    """As on the web."""
    assert Response(headers={"a": " \t1 2\n"}).headers["a"] == "1 2"


@pytest.mark.parametrize(
    "headers",
    [
        {"a b": "1"},
        {"": "1"},
        {"a": "1\r\nb: 2"},
        {"a": "\0"},
        {"a": 1},
        {1: "a"},
        "ab",
        5,
        [("a",)],
    ],
)
def test_bad_headers_are_refused_at_the_call(headers: Any) -> None:
    """A line break in a value would be a header of its own on the wire."""
    with pytest.raises((TypeError, ValueError), match="header"):
        Response(headers=headers)


@pytest.mark.parametrize(
    ("body", "headers", "content_type"),
    [
        ("x", None, "text/plain;charset=UTF-8"),
        ("", None, "text/plain;charset=UTF-8"),
        ("x", {"X-One": "1"}, "text/plain;charset=UTF-8"),
        ("x", {"Content-Type": "text/html"}, "text/html"),
        (b"x", None, None),
        (None, None, None),
    ],
)
def test_text_says_that_it_is_text(body: Any, headers: Any, content_type: str | None) -> None:
    """Unless the headers say otherwise; bytes say nothing."""
    assert Response(body, headers=headers).headers.get("content-type") == content_type
    assert post(body, headers=headers).headers.get("content-type") == content_type


# Bodies


@pytest.mark.parametrize(
    "make",
    [lambda: "né", "né".encode, lambda: chunks(b"n", b"", bytearray("é".encode()))],
)
async def test_a_body_is_read_in_any_of_four_ways(make: Any) -> None:
    """Whatever it was made of."""
    assert await Response(make()).text() == "né"
    assert await post(make()).bytes() == "né".encode()
    assert b"".join([chunk async for chunk in Response(make()).stream()]) == "né".encode()
    assert await Response('{"a": [1]}').json() == {"a": [1]}


@pytest.mark.parametrize("make", [lambda: "x", lambda: chunks(b"x")])
async def test_a_body_is_read_once(make: Any) -> None:
    """The second read is a clear error, whichever ways the two are."""
    for first in ("text", "bytes", "stream"):
        response = Response(make())
        assert not response.body_used
        answer = getattr(response, first)()
        if first != "stream":
            await answer

        assert response.body_used
        with pytest.raises(TypeError, match="Body has already been used"):
            await response.text()
        with pytest.raises(TypeError, match="Body has already been used"):
            await response.json()
        with pytest.raises(TypeError, match="Body has already been used"):
            response.stream()


async def test_no_body_is_empty_however_often_it_is_read() -> None:
    """There is nothing to use up."""
    response = Response()

    assert await response.text() == ""
    assert await response.bytes() == b""
    assert [chunk async for chunk in response.stream()] == []
    assert not response.body_used


@pytest.mark.parametrize("view", [bytearray, memoryview])
async def test_bytes_that_can_change_are_copied(view: Any) -> None:
    """Later changes are not sent."""
    body = view(bytearray(b"abc"))
    response = Response(body)
    body[0] = 0

    assert await response.bytes() == b"abc"


@pytest.mark.parametrize("body", [5, ["x"], object(), {"a": 1}, iter([b"x"])])
def test_anything_else_is_no_body(body: Any) -> None:
    """A plain iterator is not an async one."""
    with pytest.raises(TypeError, match="a body must be"):
        Response(body)


def test_text_that_utf_8_cannot_express_is_refused_at_the_call() -> None:
    """Rather than changed on the way."""
    with pytest.raises(ValueError, match="lone surrogate at 1"):
        Response("a\ud800")


async def test_chunks_are_bytes() -> None:
    """A stream of text is refused when it is read."""
    with pytest.raises(TypeError, match="chunks of a body must be bytes, not str"):
        await Response(chunks("x")).bytes()


async def test_text_is_decoded_as_on_the_web() -> None:
    """Without a byte order mark, and with a mark for what is no UTF-8."""
    assert await Response(b"\xef\xbb\xbfa\xff").text() == "a\ufffd"


async def test_what_is_no_json_is_a_value_error() -> None:
    """The error of the json module."""
    with pytest.raises(ValueError, match="Expecting value"):
        await Response("x").json()
    with pytest.raises(ValueError):
        await Response().json()


async def test_what_the_stream_raises_reaches_the_reader() -> None:
    """As itself."""

    async def torn() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await Response(torn()).bytes()


async def test_a_stream_can_be_left_half_way() -> None:
    """Its source is told, and there is nothing more to read."""
    ended = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append(True)

    stream = Response(endless()).stream()
    assert await anext(stream) == b"x"
    await stream.aclose()  # type: ignore[attr-defined]

    assert ended == [True]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_can_be_replaced_before_it_is_read() -> None:
    """This is how a stream is pumped from one object to another."""
    response = Response(chunks(b"a", b"b"))
    source = response._take_stream()
    assert source is not None
    response._set_stream(chunks(*[chunk.upper() async for chunk in source]))

    assert await response.text() == "AB"
    assert response._take_stream() is None


@pytest.mark.parametrize(
    ("body", "size"), [(None, 0), ("é", 2), (b"abc", 3), (b"", 0), (chunks(b"x"), 0)]
)
def test_the_size_is_that_of_the_bytes_in_memory(body: Any, size: int) -> None:
    """It is what a queue counts; only a stream is ever replaced."""
    response = Response(body)

    assert response._size == size
    assert (response._take_stream() is None) == (size > 0 or not hasattr(body, "__aiter__"))


# Responses


@pytest.mark.parametrize(("status", "ok"), [(200, True), (299, True), (300, False), (599, False)])
def test_ok_is_for_the_two_hundreds(status: int, ok: bool) -> None:
    """And the status is kept."""
    response = Response(status=status)

    assert response.status == status
    assert response.ok is ok


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, -1])
def test_a_status_is_in_its_range(status: int) -> None:
    """101 is only for a response with a websocket."""
    with pytest.raises(ValueError, match="outside the range"):
        Response(status=status)


@pytest.mark.parametrize("status", ["200", 200.0, True, None])
def test_a_status_is_an_int(status: Any) -> None:
    """And a bool is none."""
    with pytest.raises(TypeError, match="status must be an int"):
        Response(status=status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    """Without one they are fine, and so they are with an empty one, as an upstream's answer has."""
    assert Response(status=status).status == status
    for empty in ("", b"", bytearray()):
        response = Response(empty, status=status)
        assert response.status == status
        assert "content-type" not in response.headers
    with pytest.raises(TypeError, match="null body status"):
        Response("x", status=status)


def test_a_websocket_comes_with_101_and_no_body() -> None:
    """The client's end is handed to the caller."""
    end, _ = durable.WebSocketPair()

    assert Response(status=101, websocket=end).websocket is end
    assert Response().websocket is None
    with pytest.raises(ValueError, match="must have status code 101"):
        Response(websocket=end)
    with pytest.raises(TypeError, match="null body status"):
        Response("x", status=101, websocket=end)


async def test_from_json_writes_json() -> None:
    """Compact, as UTF-8, and saying so."""
    response = Response.from_json({"a": [1, "é"]}, status=201, headers={"x-one": "1"})

    assert response.status == 201
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-one"] == "1"
    assert await response.bytes() == '{"a":[1,"é"]}'.encode()


def test_from_json_keeps_a_content_type_that_was_given() -> None:
    """A JSON of a special kind may say which."""
    headers = {"Content-Type": "application/ld+json"}

    assert Response.from_json({}, headers=headers).headers.getall("content-type") == [
        "application/ld+json"
    ]


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_from_json_raises_for_what_json_does_not_have(value: Any) -> None:
    """What the json module raises; NaN is not JSON."""
    with pytest.raises((TypeError, ValueError)):
        Response.from_json(value)


def test_redirect_sends_on() -> None:
    """With the statuses made for it, to an absolute URL."""
    response = Response.redirect("https://x/y", 307)

    assert (response.status, response.headers["location"]) == (307, "https://x/y")
    with pytest.raises(ValueError, match="not a redirect status"):
        Response.redirect("https://x/y", 200)
    with pytest.raises(TypeError, match="Fetch API cannot load"):
        Response.redirect("/y")


def test_the_repr_says_which() -> None:
    """Short enough for a log."""
    assert repr(post()) == "<Request POST https://object/x>"
    assert repr(Response(status=404)) == "<Response 404>"


# Headers that are changed


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x-a", "b\r\nset-cookie: c=d", ValueError),
        ("x-a", "b\0", ValueError),
        ("x-a", "\u65e5", ValueError),
        ("x-a: b\r\nx-c", "d", ValueError),
        ("", "d", ValueError),
        ("x a", "d", ValueError),
        ("x-a", 1, TypeError),
        ("x-a", b"b", TypeError),
        ("x-a", None, TypeError),
        (1, "b", TypeError),
    ],
)
@pytest.mark.parametrize("how", ["set", "add", "extend", "update", "merge", "setdefault", "made"])
def test_headers_are_checked_when_they_are_set(
    name: Any, value: Any, error: type[Exception], how: str
) -> None:
    """However they are set, and none of them is when one is wrong."""
    response = Response("x", headers={"x-old": "1"})
    headers = response.headers
    ways: dict[str, Any] = {
        "set": lambda: headers.__setitem__(name, value),
        "add": lambda: headers.add(name, value),
        "extend": lambda: headers.extend([("x-good", "1"), (name, value)]),
        "update": lambda: headers.update({"x-good": "1", name: value}),
        "merge": lambda: headers.merge([("x-good", "1"), (name, value)]),
        "setdefault": lambda: headers.setdefault(name, value),
        "made": lambda: Response("x", headers=[(name, value)]),
    }
    before = list(headers.items())
    with pytest.raises(error):
        ways[how]()
    assert list(headers.items()) == before


def test_headers_are_a_multidict() -> None:
    """What can be set is set as there: values lose the space around them, latin-1 is taken."""
    headers = Response(headers=[("X-A", " 1 "), ("x-a", "2")]).headers
    assert headers.getall("x-a") == ["1", "2"]
    assert headers["X-a"] == headers.get("x-a") == "1"
    headers["x-a"] = " é\t"
    headers.add("x-a", "3")
    headers.update(b="4")
    assert list(headers.items()) == [("x-a", "é"), ("x-a", "3"), ("b", "4")]
    with pytest.raises(ValueError, match="line break"):
        headers.copy().add("x-a", ".\n.")


# Clones


async def test_a_clone_is_read_on_its_own() -> None:
    """Whichever is read first."""
    for message in (
        Request("https://x/", method="PUT", headers={"x-a": "1"}, body="ab"),
        Response("ab", status=201, headers={"x-a": "1"}),
    ):
        copy: Any = message.clone()
        copy.headers["x-a"] = "2"
        assert message.headers["x-a"] == "1"
        assert copy.headers["content-type"] == "text/plain;charset=UTF-8"
        assert await copy.text() == await message.text() == "ab"
        with pytest.raises(TypeError, match="already been used"):
            message.clone()


async def test_both_of_a_streamed_body_get_all_of_it() -> None:
    """What one has read is kept for the other; the source ends when both have left."""
    ended = []

    async def source() -> AsyncIterator[bytes]:
        try:
            for chunk in (b"a", b"b", b"c"):
                yield chunk
        finally:
            ended.append(True)

    response = Response(source())
    copy = response.clone()
    again = copy.clone()
    first, second = response.stream(), copy.stream()
    assert await anext(first) == b"a"
    assert [chunk async for chunk in second] == [b"a", b"b", b"c"]
    assert [chunk async for chunk in first] == [b"b", b"c"]
    assert await again.bytes() == b"abc"
    assert ended == [True]


async def test_the_source_of_clones_ends_when_both_have_left() -> None:
    """One of them may leave early."""
    ended = []

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            ended.append(True)

    response = Response(source())
    streams: list[Any] = [response.clone().stream(), response.stream()]
    for stream in streams:
        assert await anext(stream) == b"a"
        assert ended == []
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert ended == [True]


async def test_a_clone_is_not_cut_short_by_a_cancelled_read_of_the_other() -> None:
    """It breaks off with an error, since its source was cancelled."""
    response = Response(_slow())
    copy = response.clone()
    with anyio.move_on_after(0.001):
        await response.bytes()
    with pytest.raises(ConnectionError, match="broke off"):
        await copy.bytes()


async def _slow() -> AsyncIterator[bytes]:
    yield b"a"
    await anyio.sleep_forever()


async def test_clones_can_be_read_at_the_same_time() -> None:
    """One of the two asks the source, and the other gets what that brings."""

    async def source() -> AsyncIterator[bytes]:
        for number in range(10):
            await anyio.sleep(0)
            yield b"%d" % number

    response = Response(source())
    got = []

    async def read(message: Response) -> None:
        got.append(await message.bytes())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, response.clone())
        tasks.start_soon(read, response)
    assert got == [b"0123456789"] * 2


def test_a_response_with_a_socket_has_no_clone() -> None:
    """There is one socket."""
    end, _ = durable.WebSocketPair()
    with pytest.raises(TypeError, match="WebSocket handshake"):
        Response(status=101, websocket=end).clone()


# Requests of requests


async def test_a_request_is_made_of_another() -> None:
    """With what is given in the place of its own; its body is taken."""
    request = Request("https://x/a", method="POST", headers={"x-a": "1"}, body="ab")
    with pytest.raises(TypeError, match="GET or HEAD"):
        Request(request, method="GET")
    with pytest.raises(ValueError, match="header name"):
        Request(request, headers={"a b": "1"})
    assert not request.body_used
    made = Request(request, method="put", redirect="manual")
    assert (made.method, str(made.url), made.headers["x-a"]) == ("PUT", "https://x/a", "1")
    assert made.redirect == "manual"
    assert made.headers["content-type"] == "text/plain;charset=UTF-8"
    assert request.body_used
    assert await made.text() == "ab"
    with pytest.raises(TypeError, match="used body"):
        Request(request)
    assert await Request(request, body="new").text() == "new"


# JSON


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("", "it is empty"),
        ("<html>", "it begins with '<html>'"),
        ("NaN", "no NaN"),
        ("[1, -Infinity]", "no -Infinity"),
        ('{"a": 1', "delimiter"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 10_000, "limit"),
        (b"\xff", "it begins with"),
    ],
)
async def test_what_is_no_json_is_said(body: Any, what: str) -> None:
    """It is a ValueError, whatever is wrong."""
    with pytest.raises(json.JSONDecodeError, match=re.escape(what)):
        await Response(body).json()
