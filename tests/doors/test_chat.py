"""The chat of the documentation: its rooms, its limiter, and its page in a real browser."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import durable
from durable import Request, WebSocket
from durable._border.websocket import end_of
from durable.testing import evict_all

from .browser import Page, browsing
from .servers import Server, serving

CHAT = Path(__file__).parents[2] / "docs" / "examples" / "chat"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("chat", CHAT / "chat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chat() -> Any:
    """The module of the example."""
    return load()


@pytest.fixture
async def runtime(chat: Any, tmp_path: Path) -> AsyncIterator[durable.Runtime]:
    bindings = {"ROOMS": chat.ChatRoom, "LIMITERS": chat.RateLimiter}
    async with durable.open(tmp_path / "store", bindings=bindings) as runtime:
        yield runtime


async def enter(chat: Any, runtime: durable.Runtime, name: str, room: str = "r") -> WebSocket:
    """The socket of one who has entered a room."""
    headers = {"upgrade": "websocket", "cf-connecting-ip": name}
    request = Request(f"https://chat/api/room/{room}/websocket", headers=headers)
    ws = (await chat.fetch(request, runtime.env)).websocket
    assert isinstance(ws, WebSocket)
    ws.accept()
    ws.send(json.dumps({"name": name}))
    return ws


async def hear(ws: WebSocket) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(await anext(ws))
    return said


async def hear_until_ready(ws: WebSocket) -> list[dict[str, Any]]:
    heard = []
    while (said := await hear(ws)) != {"ready": True}:
        heard.append(said)
    return heard


async def test_what_one_says_all_hear(chat: Any, runtime: durable.Runtime) -> None:
    """In the room, and in no other one; who comes and goes is told too."""
    ann = await enter(chat, runtime, "ann")
    assert await hear_until_ready(ann) == [{"joined": "ann"}]
    eve = await enter(chat, runtime, "eve", room="other")
    await hear_until_ready(eve)
    bob = await enter(chat, runtime, "bob")
    assert await hear_until_ready(bob) == [{"joined": "ann"}, {"joined": "bob"}]
    assert await hear(ann) == {"joined": "bob"}
    ann.send(json.dumps({"message": "hi"}))

    heard = await hear(bob)
    assert (heard["name"], heard["message"]) == ("ann", "hi")
    assert await hear(ann) == heard
    bob.close(1000)
    assert await hear(ann) == {"quit": "bob"}
    assert not end_of(eve).inbox


async def test_the_backlog_is_the_last_hundred_messages(
    chat: Any, runtime: durable.Runtime
) -> None:
    """Oldest first, also after the room was out of memory."""
    chat.MESSAGE_COSTS_S = 0.0
    ann = await enter(chat, runtime, "ann")
    await hear_until_ready(ann)
    for number in range(105):
        ann.send(json.dumps({"message": str(number)}))
    for _ in range(105):
        await hear(ann)
    await evict_all(runtime)
    bob = await enter(chat, runtime, "bob")

    heard = [said["message"] for said in await hear_until_ready(bob) if "message" in said]
    assert heard == [str(number) for number in range(5, 105)]


async def test_members_are_known_after_the_room_has_slept(
    chat: Any, runtime: durable.Runtime
) -> None:
    """Their names are attached to their sockets."""
    ann = await enter(chat, runtime, "ann")
    await hear_until_ready(ann)
    await evict_all(runtime)
    ann.send(json.dumps({"message": "still here"}))

    assert (await hear(ann))["name"] == "ann"


async def test_who_speaks_too_fast_is_told(chat: Any, runtime: durable.Runtime) -> None:
    """By address, and in all rooms together."""
    for room in ("one", "other"):
        ann = await enter(chat, runtime, "ann", room)
        await hear_until_ready(ann)
        said, heard = 0, {"message": ""}
        while "message" in heard:
            said += 1
            ann.send(json.dumps({"message": str(said)}))
            heard = await hear(ann)

        assert "rate-limited" in heard["error"]
        # The limiter is told of a message while the next one may be heard already.
        assert said in range(4, 10) if room == "one" else said in range(1, 5)


async def test_who_has_waited_may_speak_again(
    chat: Any, runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(s=1_800_000_000.0)
    monkeypatch.setattr(chat, "time", SimpleNamespace(time=lambda: now.s))
    ann = await enter(chat, runtime, "ann")
    await hear_until_ready(ann)
    heard = {"message": ""}
    while "message" in heard:
        ann.send(json.dumps({"message": "too fast"}))
        heard = await hear(ann)

    now.s += chat.GRACE_S
    ann.send(json.dumps({"message": "later"}))
    assert (await hear(ann))["message"] == "later"


@pytest.mark.parametrize("message", ["no json", "[]", "{}", '{"message": 1}', b"\xff"])
async def test_nonsense_is_answered(
    chat: Any, runtime: durable.Runtime, message: str | bytes
) -> None:
    """With an error, to the one who has sent it."""
    ann = await enter(chat, runtime, "ann")
    await hear_until_ready(ann)
    ann.send(message)

    assert "error" in await hear(ann)


async def test_rooms_are_found_by_name_or_id(chat: Any, runtime: durable.Runtime) -> None:
    """A private room has an id that cannot be made up."""
    made = await chat.fetch(Request("https://chat/api/room", method="POST"), runtime.env)
    room = await made.text()
    assert await hear_until_ready(await enter(chat, runtime, "ann", room)) == [{"joined": "ann"}]
    for name, status in ((room, 400), ("0" * 64, 400), ("x" * 33, 400)):
        request = Request(f"https://chat/api/room/{name}/websocket")
        assert (await chat.fetch(request, runtime.env)).status == status
    for name in ("0" * 64, "x" * 33):
        request = Request(
            f"https://chat/api/room/{name}/websocket", headers={"upgrade": "websocket"}
        )
        assert (await chat.fetch(request, runtime.env)).status == 404


# The page


def shown(page: Page) -> list[str]:
    """The messages on the page."""
    script = "[...document.querySelectorAll('#log li:not(.note)')].map(e => e.childNodes[1].data)"
    found: list[str] = page.evaluate(script)
    return found


def serve(folder: Path, port: int = 0) -> Any:
    return serving("uvicorn", "chat:app", folder, port=port, where=CHAT)


def open_page(browser: Any, server: Server, name: str) -> Page:
    query = urllib.parse.urlencode({"room": "tea", "name": name})
    page: Page = browser.open(f"{server.url}/#{query}")
    page.wait("document.body && document.body.dataset.ready === 'yes'")
    return page


def wait_shown(page: Page, text: str) -> None:
    page.wait(
        f"[...document.querySelectorAll('#log li')].some(e => e.innerText.includes({text!r}))"
    )


def test_two_pages_talk_and_survive_a_kill(tmp_path: Path) -> None:
    """What is typed in one appears in the other; after SIGKILL the backlog is there."""
    with browsing(tmp_path / "profile") as browser:
        with serve(tmp_path / "served") as server:
            port = server.port
            assert httpx.get(server.url).status_code == 200
            ann, bob = open_page(browser, server, "Ann"), open_page(browser, server, "Bob")
            ann.evaluate("document.getElementById('text').focus()")
            ann.type_line("Is anybody here?")
            wait_shown(bob, "Is anybody here?")
            bob.evaluate("document.getElementById('text').focus()")
            bob.type_line("I am, and so is the backlog.")
            wait_shown(ann, "I am, and so is the backlog.")
            assert ann.evaluate("document.getElementById('roster').innerText") == "Ann\nBob"
            picture = os.environ.get("CHAT_SCREENSHOT")
            if picture:
                Path(picture).write_bytes(ann.screenshot())
            server.stop(signal.SIGKILL)
        ann.wait("!document.body.dataset.ready")
        with serve(tmp_path / "served", port) as server:
            carol = open_page(browser, server, "Carol")
            wait_shown(carol, "I am, and so is the backlog.")
            for page in (ann, bob):
                page.wait("document.body.dataset.ready === 'yes'")
            carol.evaluate("document.getElementById('text').focus()")
            carol.type_line("You came back!")
            for page in (ann, carol):
                wait_shown(page, "You came back!")
            expected = ["Is anybody here?", "I am, and so is the backlog.", "You came back!"]
            assert shown(ann) == shown(carol) == expected


def serve_shared(folder: Path, port: int = 0) -> Any:
    return serving("uvicorn", "shared_chat:app", folder, port=port)


def say(page: Page, text: str) -> None:
    page.evaluate("document.getElementById('text').focus()")
    page.type_line(text)


def test_two_pages_talk_by_two_processes(tmp_path: Path) -> None:
    """The room is in one of them; each of the two is killed, and both pages talk on."""
    said: list[str] = []

    def say_and_see(page: Page, other: Page, text: str) -> None:
        for each in (page, other):
            each.wait("document.body.dataset.ready === 'yes'")
        say(page, text)
        said.append(text)
        for each in (page, other):
            wait_shown(each, text)

    with (
        browsing(tmp_path / "profile") as browser,
        serve_shared(tmp_path / "served") as one,
        ExitStack() as stack,
    ):
        other = stack.enter_context(serve_shared(tmp_path / "served"))
        ann, bob = open_page(browser, one, "Ann"), open_page(browser, other, "Bob")
        assert one.process.pid != other.process.pid
        say_and_see(ann, bob, "Are you in the other process?")
        say_and_see(bob, ann, "In the other one.")
        assert ann.evaluate("document.getElementById('roster').innerText") == "Ann\nBob"
        port = other.port
        other.stop(signal.SIGKILL)
        bob.wait("!document.body.dataset.ready")
        # The room may have been there; then it is here now.
        ann.wait("document.body.dataset.ready === 'yes'")
        other = stack.enter_context(serve_shared(tmp_path / "served", port))
        bob.wait("document.body.dataset.ready === 'yes'")
        say_and_see(bob, ann, "Mine was killed.")
        say_and_see(ann, bob, "And here you are.")
        port = one.port
        one.stop(signal.SIGKILL)
        ann.wait("!document.body.dataset.ready")
        bob.wait("document.body.dataset.ready === 'yes'")
        stack.enter_context(serve_shared(tmp_path / "served", port))
        ann.wait("document.body.dataset.ready === 'yes'")
        say_and_see(ann, bob, "Mine, too.")

        assert shown(ann) == shown(bob) == said
