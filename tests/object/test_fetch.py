"""`stub.fetch`: sent once, redirects followed, and handlers that hear who has gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import Request, Response, Runtime, Stub


async def chunks() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


class Site(durable.DurableObject):
    """Redirects, and says what reaches it."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.seen: list[str] = []
        self.kept = Response("kept")
        self.signal: durable.Signal | None = None
        self.ended = False

    async def fetch(self, request: Request) -> Response:
        query = request.url.query
        self.seen.append(f"{request.method} {request.url.path}")
        match request.url.path:
            case "/to":
                status = int(query.get("status", "302"))
                return Response(status=status, headers={"location": query["location"]})
            case "/round":
                return Response(status=302, headers={"location": "/round"})
            case "/nowhere":
                return Response(status=302)
            case "/read":
                response = Response("abc")
                await response.text()
                return response
            case "/kept":
                return self.kept
            case "/wait":
                self.signal = request.signal
                with anyio.fail_after(3_600):
                    await request.signal.wait()
                self.ended = True
            case "/stay":
                self.signal = request.signal
        said = {
            "method": request.method,
            "url": str(request.url),
            "redirect": request.redirect,
            "authorization": request.headers.get("authorization"),
            "body": await request.text(),
        }
        return Response.from_json(said)

    async def paths(self) -> list[str]:
        return self.seen

    async def echo(self, message: Any) -> Any:
        return message

    async def has_signal(self) -> list[bool]:
        return [self.signal is not None and self.signal.aborted, self.ended]


@pytest.fixture
async def site(runtime: Runtime) -> Stub[Site]:
    return runtime.namespace(Site).get_by_name("a")


# Sent once


@pytest.mark.parametrize("read", ["text", "bytes", "json", "stream"])
async def test_a_request_that_was_read_is_refused_at_the_call(site: Stub[Site], read: str) -> None:
    """Where the mistake is, and nothing reaches the object."""
    request = Request("https://site/", method="POST", body="1")
    if read == "stream":
        request.stream()
    else:
        await getattr(request, read)()
    with pytest.raises(TypeError, match="used body"):
        site.fetch(request)
    assert await site.paths() == []


@pytest.mark.parametrize("body", ["text", b"bytes", chunks])
async def test_a_request_is_sent_once(site: Stub[Site], body: Any) -> None:
    """Whether or not its body is looked at; one without a body may be sent again."""
    request = Request("https://site/", method="POST", body=body() if callable(body) else body)
    await site.fetch(request)
    assert request.body_used
    with pytest.raises(TypeError, match="used body"):
        site.fetch(request)

    request = Request("https://site/")
    for _ in range(2):
        assert (await site.fetch(request)).ok


async def test_a_clone_is_sent_in_its_place(site: Stub[Site]) -> None:
    """Each of the two is read on its own, streamed bodies too."""
    for body in (b"ab", chunks()):
        request = Request("https://site/", method="POST", body=body)
        copy = request.clone()
        assert await request.text() == "ab"
        assert (await (await site.fetch(copy)).json())["body"] == "ab"


async def test_a_response_that_was_read_is_no_answer(site: Stub[Site]) -> None:
    """The caller gets the error of the object that returned it."""
    with pytest.raises(TypeError, match="already been used"):
        await site.fetch("https://site/read")


async def test_a_response_is_an_answer_once(site: Stub[Site]) -> None:
    """As the first caller may be about to read it."""
    first = await site.fetch("https://site/kept")
    with pytest.raises(TypeError, match="already been used"):
        await site.fetch("https://site/kept")
    assert await first.text() == "kept"


async def test_messages_in_arguments_and_results_are_sent_once(site: Stub[Site]) -> None:
    """As those of `fetch` are."""
    for message in (Request("https://x/", method="POST", body="ab"), Response("ab")):
        got = await site.echo(message)
        assert await got.text() == "ab"
        with pytest.raises(TypeError, match="used"):
            await site.echo(message)


async def test_arguments_of_fetch_replace_parts_of_a_request(site: Stub[Site]) -> None:
    """As on the web; the request itself stays what it is."""
    request = Request("https://site/", method="POST", headers={"authorization": "a"}, body="old")
    said = await (await site.fetch(request, method="PUT", body="new")).json()
    assert (said["method"], said["body"], said["authorization"]) == ("PUT", "new", "a")
    assert not request.body_used
    said = await (await site.fetch(request, headers={"authorization": "b"})).json()
    assert (said["method"], said["body"], said["authorization"]) == ("POST", "old", "b")
    assert request.body_used


# Redirects


@pytest.mark.parametrize(
    ("method", "status", "then", "body"),
    [
        ("GET", 301, "GET", ""),
        ("POST", 301, "GET", ""),
        ("POST", 302, "GET", ""),
        ("PUT", 302, "PUT", "ab"),
        ("POST", 303, "GET", ""),
        ("PUT", 303, "GET", ""),
        ("POST", 307, "POST", "ab"),
        ("DELETE", 308, "DELETE", "ab"),
    ],
)
async def test_a_redirect_is_followed(
    site: Stub[Site], method: str, status: int, then: str, body: str
) -> None:
    """To the same object, with the method and the body that the standard says."""
    url = f"https://site/to?status={status}&location=/there?a=1"
    sent = None if method == "GET" else "ab"
    response = await site.fetch(url, method=method, body=sent)

    assert response.status == 200
    said = await response.json()
    assert said["url"] == "https://site/there?a=1"
    assert (said["method"], said["body"]) == (then, body)
    assert await site.paths() == [f"{method} /to", f"{then} /there"]


async def test_a_redirect_that_is_awaited_twice_is_followed_once(site: Stub[Site]) -> None:
    """An answer is one answer."""
    answer = site.fetch("https://site/to?location=/there")
    assert (await answer).ok
    assert (await answer).ok
    assert await site.paths() == ["GET /to", "GET /there"]


async def test_a_redirect_can_be_left_to_the_caller(site: Stub[Site]) -> None:
    """By the call or by its request; what an object is asked for is not followed by it."""
    url = "https://site/to?location=/there"
    for response in (
        await site.fetch(url, redirect="manual"),
        await site.fetch(Request(url, redirect="manual")),
        await site.fetch(Request(url), redirect="manual"),
    ):
        assert response.status == 302
        assert response.headers["location"] == "/there"
    assert (await (await site.fetch("https://site/")).json())["redirect"] == "manual"
    with pytest.raises(TypeError, match='redirect mode is "error"'):
        await site.fetch(url, redirect="error")
    with pytest.raises(TypeError, match="redirect"):
        site.fetch(url, redirect="sometimes")  # type: ignore[arg-type]


async def test_redirects_end(site: Stub[Site]) -> None:
    """After twenty, or where one does not say to what."""
    with pytest.raises(TypeError, match="Too many redirects"):
        await site.fetch("https://site/round")
    assert len(await site.paths()) == 21
    assert (await site.fetch("https://site/nowhere")).status == 302


async def test_a_streamed_body_is_not_sent_again(site: Stub[Site]) -> None:
    """It is gone; a redirect that drops it is followed."""
    url = "https://site/to?location=/there&status="
    with pytest.raises(TypeError, match="one-time-use body"):
        await site.fetch(url + "307", method="POST", body=chunks())
    assert (await site.fetch(url + "303", method="POST", body=chunks())).ok


async def test_credentials_stay_at_their_origin(site: Stub[Site]) -> None:
    """As the standard says; activations mean nothing to an object, but they may to its author."""
    for location, kept in (("/there", "secret"), ("https://other/", None)):
        response = await site.fetch(
            f"https://site/to?location={location}", headers={"authorization": "secret"}
        )
        assert (await response.json())["authorization"] == kept


# Who has gone


async def test_a_handler_is_told_that_its_caller_has_gone(
    site: Stub[Site], clock: durable.testing.VirtualClock
) -> None:
    """By the signal of its request; it is not cancelled."""
    request = Request("https://site/wait")
    with anyio.move_on_after(0.001):
        await site.fetch(request)
    await clock.settle()

    assert await site.has_signal() == [True, True]
    assert not request.signal.aborted  # it may be sent to another


async def test_a_caller_that_has_its_response_has_not_gone(
    site: Stub[Site], clock: durable.testing.VirtualClock
) -> None:
    """Nor has one that never awaits it."""
    await site.fetch("https://site/stay")
    assert await site.has_signal() == [False, False]
    site.fetch("https://site/stay")
    await clock.settle()
    assert await site.has_signal() == [False, False]


def test_a_signal_goes_on_however_often_a_request_was_handed_on() -> None:
    """More often than calls of Python can nest."""
    request = first = Request("https://site/")
    kept = [first.signal]
    for _ in range(3_000):
        request = Request(request)
        kept.append(request.signal)

    first.signal._abort()
    assert all(signal.aborted for signal in kept)


async def test_a_signal_goes_on_to_what_a_request_was_made_into(site: Stub[Site]) -> None:
    """A clone and a request that was made of it have the same caller."""
    request = Request("https://site/")
    copies = [request.clone(), Request(request), Request(Request(request))]
    signals = [copy.signal for copy in copies]
    request.signal._abort()
    assert [signal.aborted for signal in signals] == [True] * 3
    assert Request(request).signal.aborted
    await request.signal.wait()
