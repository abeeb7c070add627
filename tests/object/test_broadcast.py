"""`ctx.broadcast`: one message for all accepted sockets."""

from __future__ import annotations

from typing import Any

import pytest

import durable
from durable import Response, WebSocket, WebSocketPair
from durable._border import unread as model
from durable._border.websocket import end_of
from durable.testing import Faults, VirtualClock, evict, run_in_object


class Room(durable.DurableObject):
    """Says what it is told to everybody."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        name = request.url.path.strip("/")
        self.ctx.accept_websocket(server, [name, request.url.query.get("team", "none")])
        return Response(status=101, websocket=client)

    async def say(self, message: str | bytes, tag: str | None = None) -> int:
        return self.ctx.broadcast(message, tag=tag)

    async def say_but(self, message: str, *names: str) -> int:
        return self.ctx.broadcast(message, without=[self.of(name) for name in names])

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.ctx.broadcast(message, without=ws)

    async def store_and_say(self, message: str) -> int:
        self.ctx.storage.put("last", message)
        return self.ctx.broadcast(message)

    async def say_around(self) -> None:
        one = self.of("a")
        one.send("1")
        self.ctx.broadcast("2")
        one.send("3")
        self.ctx.broadcast("4", tag="a")

    async def say_and_abort(self) -> None:
        self.ctx.broadcast("never said")
        self.ctx.abort("enough")

    async def close(self, name: str) -> None:
        self.of(name).close(1000, "bye")

    def of(self, name: str) -> WebSocket:
        return self.ctx.get_websockets(name)[0]


@pytest.fixture
async def room(runtime: durable.Runtime) -> durable.Stub[Room]:
    return runtime.namespace(Room).get_by_name("tea")


async def join(room: durable.Stub[Room], *names: str) -> list[WebSocket]:
    sockets = []
    for name in names:
        ws = (await room.fetch(f"https://room/{name}?team={name[0]}")).websocket
        assert ws is not None
        ws.accept()
        sockets.append(ws)
    return sockets


def unread(ws: WebSocket) -> list[Any]:
    return [frame for frame, _ in end_of(ws).inbox]


@pytest.mark.parametrize("message", ["text", "", "žluť 🐎", b"\x00\xff", bytearray(b"xy")])
async def test_all_accepted_sockets_get_it(room: durable.Stub[Room], message: Any) -> None:
    """Text as text and bytes as bytes; it returns how many they are."""
    sockets = await join(room, "a", "b", "c")

    assert await room.say(message) == 3
    assert [await anext(ws) for ws in sockets] == [message] * 3
    assert await room.say(message, tag="b") == 1
    assert [unread(ws) for ws in sockets] == [[], [message], []]
    assert await room.say(message, tag="nobody") == 0


async def test_some_can_be_left_out(room: durable.Stub[Room]) -> None:
    """Such as the one that has said it."""
    ann, bob, eve = await join(room, "a", "b", "c")

    assert await room.say_but("hello", "a", "c") == 1
    assert await anext(bob) == "hello"
    eve.send("from eve")
    assert await anext(ann) == await anext(bob) == "from eve"
    assert unread(eve) == []


async def test_it_leaves_when_what_was_written_before_is_on_disk(
    room: durable.Stub[Room], faults: Faults, clock: VirtualClock
) -> None:
    """P8, for all of them at once."""
    sockets = await join(room, "a", "b")
    with faults.hold_commits():
        call = room.store_and_say("stored")
        await clock.settle()
        assert [unread(ws) for ws in sockets] == [[], []]

    assert await call == 2
    assert [await anext(ws) for ws in sockets] == ["stored", "stored"]


async def test_it_has_its_place_among_the_messages_of_a_socket(
    room: durable.Stub[Room], faults: Faults, clock: VirtualClock
) -> None:
    """In the order in which the object has sent them, held back or not."""
    ann, bob = await join(room, "a", "b")
    await room.say_around()
    assert [unread(ws) for ws in (ann, bob)] == [["1", "2", "3", "4"], ["2"]]

    with faults.hold_commits():
        first = room.store_and_say("5")
        second = room.say_around()
        await clock.settle()
        assert unread(bob) == ["2"]
    await first
    await second
    assert unread(bob) == ["2", "5", "2"]
    assert unread(ann) == ["1", "2", "3", "4", "5", "1", "2", "3", "4"]


async def test_sockets_that_close_or_have_closed_are_passed_over(
    room: durable.Stub[Room], clock: VirtualClock
) -> None:
    """A loop of sends would raise at the first of them."""
    ann, bob, eve = await join(room, "a", "b", "c")
    await room.close("a")
    assert await room.say("one") == 2
    bob.close(1000, "bye")
    await clock.settle()
    assert await room.say("two") == 1

    assert unread(eve) == ["one", "two"]
    assert [message async for message in ann] == []


async def test_a_reset_takes_it_back(room: durable.Stub[Room]) -> None:
    """What leaves in a turn that ends in an abort was never said (P14)."""
    (ann,) = await join(room, "a")
    with pytest.raises(durable.ObjectAborted):
        await room.say_and_abort()

    with pytest.raises(durable.WebSocketClosed):
        await anext(ann)
    assert end_of(ann).unread.bytes == 0


async def test_a_commit_that_fails_takes_it_back(room: durable.Stub[Room], faults: Faults) -> None:
    """And what it counted for is not unread any more."""
    (ann,) = await join(room, "a")
    faults.fail_commits()
    with pytest.raises(durable.CommitFailed):
        await room.store_and_say("lost")
    faults.repair()

    with pytest.raises(durable.WebSocketClosed):
        await anext(ann)
    assert end_of(ann).unread.bytes == 0


async def test_a_bad_message_is_sent_to_nobody(room: durable.Stub[Room]) -> None:
    """It raises at the call."""
    (ann,) = await join(room, "a")

    def say(instance: Room, ctx: durable.State) -> None:
        broadcast: Any = ctx.broadcast
        with pytest.raises(TypeError, match="must be str or bytes, not int"):
            broadcast(5)
        with pytest.raises(ValueError, match="lone surrogate"):
            broadcast("\ud800")
        with pytest.raises(ValueError, match="cannot be larger than"):
            broadcast(bytes(33_554_433))
        with pytest.raises(TypeError, match=r"broadcast\(without=...\) takes a WebSocket, not str"):
            broadcast("text", without=["a"])
        with pytest.raises(TypeError, match="not iterable"):
            broadcast("text", without=5)
        for tag in (5, ["red"]):
            with pytest.raises(TypeError, match="a tag is a str"):
                broadcast("text", tag=tag)

    await run_in_object(room, say)
    assert unread(ann) == []


async def test_a_slow_peer_is_closed_and_not_waited_for(room: durable.Stub[Room]) -> None:
    """As by a loop of sends; the others get every message."""
    ann, bob = await join(room, "a", "b")
    part = bytes(1 << 20)
    count = model.UNREAD_BYTES_MAX // len(part) + 3
    for number in range(count):
        assert await room.say(part) == (2 if number < count - 3 else 1)
        assert await anext(bob) == part

    assert [message async for message in ann] == []
    assert ann.close_code == 1013
    assert end_of(bob).unread.bytes == 0


async def test_an_object_that_slept_has_its_sockets_still(room: durable.Stub[Room]) -> None:
    (ann,) = await join(room, "a")
    await evict(room)

    assert await room.say("awake") == 1
    assert await anext(ann) == "awake"
