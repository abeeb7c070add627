"""Forms as browsers send them, cookies that come and cookies that are set."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable
from durable import FormFile, Request, Response

pytestmark = pytest.mark.backends("asyncio", "trio")

URLENCODED = "application/x-www-form-urlencoded"


def request_of(body: Any, content_type: str = URLENCODED) -> Request:
    return Request(
        "https://object/", method="POST", body=body, headers={"content-type": content_type}
    )


async def in_parts(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def multipart(*parts: tuple[str, str | tuple[str, bytes, str]]) -> tuple[bytes, str]:
    """What a client makes of fields and files, and its content type."""
    files: Any = [(name, (None, part) if isinstance(part, str) else part) for name, part in parts]
    sent = httpx.Request("POST", "https://object/", files=files)
    return sent.read(), sent.headers["content-type"]


# Forms


async def test_a_form_has_its_fields_in_their_order() -> None:
    """A name may come more than once; plus signs are spaces, and text is UTF-8."""
    form = await request_of("a=1&b=two+words&a=%C5%BElu%C5%A5&empty=&alone").form()

    assert list(form.items()) == [
        ("a", "1"),
        ("b", "two words"),
        ("a", "žluť"),
        ("empty", ""),
        ("alone", ""),
    ]
    assert form["a"] == "1"
    assert form.getall("a") == ["1", "žluť"]
    assert await request_of("").form() == {}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
async def test_a_form_with_files_is_read_however_it_arrives(size: int) -> None:
    """Fields as str, files with their name, their type and their bytes."""
    content = bytes(range(256)) * 20 + b"\r\n--not the boundary\r\n"
    body, content_type = multipart(
        ("name", "Ann žluť"),
        ("photo", ("kůň.png", content, "image/png")),
        ("photo", ("no name", b"", "application/octet-stream")),
        ("empty", ""),
    )
    body = body.replace(b'filename="no name"', b'filename=""')  # as browsers send it
    form = await request_of(in_parts(body, size), content_type).form()

    assert list(form.items()) == [
        ("name", "Ann žluť"),
        ("photo", FormFile("kůň.png", "image/png", content)),
        ("photo", FormFile("", "application/octet-stream", b"")),
        ("empty", ""),
    ]
    photo = form["photo"]
    assert isinstance(photo, FormFile)
    assert (photo.size, "content=" in repr(photo)) == (len(content), False)


@given(
    st.lists(
        st.tuples(
            # Clients do not agree on how a backslash in a name is written.
            st.text(
                st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\"),
                min_size=1,
                max_size=20,
            ),
            st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=200)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 50),
)
def test_any_form_comes_as_it_was_sent(sent: list[tuple[str, str | bytes]], size: int) -> None:
    """By httpx's encoder, in chunks of any size."""
    body, content_type = multipart(
        *[(n, v if isinstance(v, str) else (n, v, "x/y")) for n, v in sent]
    )

    async def read() -> None:
        form = await request_of(in_parts(body, size), content_type).form()
        expected = [(n, v if isinstance(v, str) else FormFile(n, "x/y", v)) for n, v in sent]
        assert list(form.items()) == expected

    anyio.run(read)


async def test_what_is_no_form_is_a_type_error() -> None:
    """As in the web standard; and so is a body that was read."""
    for content_type in ("application/json", "text/plain;charset=UTF-8", ""):
        with pytest.raises(TypeError, match="its content type is"):
            await request_of("{}", content_type).form()
    request = request_of("a=1")
    await request.form()
    with pytest.raises(TypeError, match="already been used"):
        await request.form()


@pytest.mark.parametrize(
    ("content_type", "body", "match"),
    [
        ("multipart/form-data", b"", "names no boundary"),
        ("multipart/form-data; boundary=" + "b" * 300, b"", "names no boundary"),
        ("multipart/form-data; boundary=b", b"", "ends in the middle"),
        ("multipart/form-data; boundary=b", b"nothing of the kind", "is no multipart/form-data"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1',
            "ends in the middle",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n1\r\n--b--\r\n", "has no name"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: attachment; name="a"\r\n\r\n1\r\n--b--\r\n',
            "has no name",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\n" + b"".join(b"x-%05d: y\r\n" % n for n in range(2_000)) + b"\r\n",
            "header",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nx-long: " + b"y" * 10_000 + b"\r\n\r\n",
            "header",
        ),
    ],
)
async def test_a_form_that_is_not_right_is_said(content_type: str, body: bytes, match: str) -> None:
    """A ValueError of ours, whatever the parser says."""
    with pytest.raises(durable.InvalidForm, match=match):
        await request_of(body, content_type).form()


@pytest.mark.parametrize(
    ("limit", "number", "urlencoded", "part"),
    [
        ("size_max", 20, "a=" + "1" * 20, ("a", "1")),
        ("fields_max", 2, "a=1&a=2&a=3", ("a", "1")),
        ("field_size_max", 5, "a=123456", ("a", "123456")),
        ("files_max", 2, None, ("a", ("name", b"1", "text/plain"))),
    ],
)
async def test_a_limit_that_is_passed_ends_the_reading(
    limit: str, number: int, urlencoded: str | None, part: Any
) -> None:
    """With its name and its number; what follows is not read."""
    closed = []

    async def body(content: bytes) -> AsyncIterator[bytes]:
        try:
            yield content
            assert content == b"a=123456", "nobody reads on"
        finally:
            closed.append(True)

    content, content_type = multipart(part, part, part)
    bodies = [(content[: content.rindex(b"\r\n--")] + b"\r\n", content_type)]
    if urlencoded is not None:
        bodies.append((urlencoded.encode(), URLENCODED))
    for each, kind in bodies:
        with pytest.raises(durable.FormTooLarge, match=f"form\\({limit}={number}\\)") as refused:
            await request_of(body(each), kind).form(**{limit: number})
        assert (refused.value.limit, refused.value.limit_max) == (limit, number)
    assert closed == [True] * len(bodies)


async def test_files_share_the_size_of_the_form() -> None:
    """They have no limit of their own, and fields have."""
    body, content_type = multipart(("a", ("name", bytes(2_000_000), "text/plain")), ("b", "1"))

    form = await request_of(body, content_type).form(field_size_max=1)
    assert isinstance(form["a"], FormFile)
    with pytest.raises(durable.FormTooLarge, match="size_max"):
        await request_of(body, content_type).form(size_max=1_000_000)


async def test_files_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms without do not."""
    monkeypatch.setitem(sys.modules, "python_multipart.multipart", None)
    body, content_type = multipart(("a", "1"))

    with pytest.raises(durable.MissingExtra, match=r"durable-objects\[forms\]"):
        await request_of(body, content_type).form()
    assert await request_of("a=1").form() == {"a": "1"}


async def test_a_response_may_be_a_form_too() -> None:
    """As in the web standard."""
    response = Response("a=1", headers={"content-type": URLENCODED + "; charset=utf-8"})

    assert await response.form() == {"a": "1"}


# Cookies that come


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2;", {"a": "1", "b": "2"}),
        ('a="quoted"; b="', {"a": "quoted", "b": '"'}),
        ("a=first; a=second", {"a": "first"}),
        ("a=b=c; nothing; =no name; x=", {"a": "b=c", "x": ""}),
        ("a=%C5%BE", {"a": "%C5%BE"}),
        ("", {}),
    ],
)
def test_cookies_of_a_request_are_read(header: str, cookies: dict[str, str]) -> None:
    """What is no cookie is passed over, as browsers and servers do."""
    assert Request("https://object/", headers={"cookie": header}).cookies == cookies
    assert Request("https://object/").cookies == {}


def test_cookies_may_come_in_several_headers() -> None:
    """As HTTP/2 has them."""
    request = Request("https://object/", headers=[("cookie", "a=1"), ("cookie", "b=2; a=3")])

    assert request.cookies == {"a": "1", "b": "2"}
    cookies: Any = request.cookies
    with pytest.raises(TypeError):
        cookies["c"] = "3"


# Cookies that are set


def test_each_cookie_is_a_header_of_its_own() -> None:
    """With the attributes that were asked for; a session cookie of this site without."""
    response = Response("hello")
    response.set_cookie("a", "1")
    response.set_cookie(
        "__Host-session",
        "x.y-z_%20",
        max_age=timedelta(hours=1),
        expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        secure=True,
        httponly=True,
        samesite="strict",
        partitioned=True,
    )
    response.set_cookie("b", path="/shop", domain="example.com", samesite=None, max_age=5)
    response.delete_cookie("c", path="/shop")

    assert response.headers.getall("set-cookie") == [
        "a=1; Path=/; SameSite=Lax",
        "__Host-session=x.y-z_%20; Max-Age=3600; Expires=Wed, 02 Jan 2030 02:04:05 GMT; Path=/; "
        "SameSite=Strict; Secure; HttpOnly; Partitioned",
        "b=; Max-Age=5; Path=/shop; Domain=example.com",
        "c=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/shop; SameSite=Lax",
    ]


@pytest.mark.parametrize("bad", ["a b", "a;b", "a,b", 'a"b', "a\\b", "a\r\nb", "a\0b", "ž", "\x7f"])
def test_a_value_that_no_cookie_can_have_is_refused(bad: str) -> None:
    """It can end neither the cookie nor the header."""
    response = Response()
    with pytest.raises(ValueError, match="which no cookie can have"):
        response.set_cookie("a", bad)
    with pytest.raises(ValueError, match="cannot be the name"):
        response.set_cookie(bad, "1")
    for attribute in ("path", "domain"):
        if ";" in bad or not (bad.isascii() and bad.isprintable()):
            with pytest.raises(ValueError, match=f"cannot be the {attribute}"):
                response.set_cookie("a", "1", **{attribute: "/" + bad})  # type: ignore[arg-type]

    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"name": 1}, TypeError, "a name and a value of str"),
        ({"value": b"1"}, TypeError, "a name and a value of str"),
        ({"name": ""}, ValueError, "cannot be the name"),
        ({"value": "1" * 4_097}, ValueError, "browsers drop one of more than 4,096"),
        ({"path": "shop"}, ValueError, "begins with a slash"),
        ({"path": 1}, TypeError, "is a str"),
        ({"domain": ""}, ValueError, "cannot be the domain"),
        ({"samesite": "Lax"}, ValueError, "samesite is"),
        ({"samesite": "none"}, ValueError, "give secure=True"),
        ({"partitioned": True}, ValueError, "give secure=True"),
        ({"max_age": 1.5}, TypeError, "whole number of seconds"),
        ({"max_age": True}, TypeError, "whole number of seconds"),
        ({"expires": 5}, TypeError, "expires is a datetime"),
        ({"name": "__Host-a"}, ValueError, "without secure=True"),
        ({"name": "__host-a", "secure": True, "domain": "a.b"}, ValueError, "with a domain"),
        ({"name": "__Host-a", "secure": True, "path": "/a"}, ValueError, "without secure=True"),
        ({"name": "__Secure-a"}, ValueError, "give secure=True"),
    ],
)
def test_what_browsers_would_drop_is_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    """At the call, with what to do; the response is as it was."""
    response = Response()
    with pytest.raises(kind, match=match):
        response.set_cookie(**{"name": "a", "value": "1", **arguments})

    assert "set-cookie" not in response.headers


def test_times_are_written_in_english_and_in_utc() -> None:
    """A naive one is local time, as everywhere."""
    response = Response()
    response.set_cookie("a", expires=datetime.fromtimestamp(0))
    response.set_cookie("a", expires=datetime.fromtimestamp(0, UTC))

    first, second = response.headers.getall("set-cookie")
    assert first == second
    assert "Thu, 01 Jan 1970 00:00:00 GMT" in first
