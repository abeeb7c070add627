"""Hibernatable sockets: handlers, tags, attachments, auto-responses, and what outlives eviction."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

import durable
from durable import Response, WebSocket, WebSocketPair
from durable._border.websocket import end_of
from durable.testing import Faults, VirtualClock, abort_all, evict, is_live, run_in_object

seen: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    seen.clear()
    DOORS.clear()


class Room(durable.DurableObject):
    """A room; what a message says is done."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        seen.append("built")

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server, request.url.query.getall("tag", []))
        name = request.url.query.get("name")
        if name is not None:
            server.serialize_attachment({"name": name})
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        match message:
            case "boom":
                raise ValueError("boom")
            case "abort":
                self.ctx.abort("enough")
            case "count":
                count = await self.ctx.storage.get("count", 0) + 1
                await self.ctx.storage.put("count", count)
                ws.send(str(count))
            case "who":
                ws.send(f"{ws.deserialize_attachment()} {self.ctx.get_tags(ws)}")
            case "close":
                ws.close(4001, "as you wish")
            case "nap":
                seen.append("naps")
                await anyio.sleep(0)
                await anyio.sleep(0)
                seen.append("wakes")
            case "wait":
                await DOORS["wait"].wait()
                ws.send("waited")
            case _:
                seen.append(message)
                ws.send(message)

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        seen.append((code, reason, was_clean, ws in self.ctx.get_websockets()))
        if "close" in DOORS:
            await DOORS["close"].wait()
            seen.append(ws in self.ctx.get_websockets())

    async def websocket_error(self, ws: WebSocket, error: Exception) -> None:
        seen.append(error)

    def say(self, text: str, tag: str | None = None) -> int:
        sockets = self.ctx.get_websockets(tag)
        for ws in sockets:
            ws.send(text)
        return len(sockets)

    async def locked(self, door: str) -> None:
        await self.ctx.block_concurrency_while(DOORS[door].wait)

    def set_ping(self, request: str | None = None, response: str | None = None) -> Any:
        self.ctx.set_websocket_auto_response(request, response)
        return self.ctx.get_websocket_auto_response()

    def pinged(self) -> list[datetime | None]:
        state = self.ctx
        return [state.get_websocket_auto_response_timestamp(ws) for ws in state.get_websockets()]

    async def take(self, ws: WebSocket, tags: Any = ()) -> None:
        self.ctx.accept_websocket(ws, tags)


class Deaf(durable.DurableObject):
    """Accepts sockets and has no handlers."""

    async def take(self, ws: WebSocket) -> None:
        self.ctx.accept_websocket(ws)

    def count(self) -> int:
        return len(self.ctx.get_websockets())


def room(runtime: durable.Runtime, name: str = "a") -> durable.Stub[Room]:
    return runtime.namespace(Room).get_by_name(name)


async def join(stub: durable.Stub[Room], query: str = "") -> WebSocket:
    ws = (await stub.fetch(f"https://room/?{query}")).websocket
    assert ws is not None
    ws.accept()
    return ws


async def read_all(ws: WebSocket) -> list[str | bytes]:
    return [message async for message in ws]


# Handlers


@pytest.mark.borrows
async def test_a_handler_that_sleeps_for_no_time_lets_others_in(runtime: durable.Runtime) -> None:
    """`sleep(0)` is a wait on the outside for a handler of sockets as for a method."""
    stub = room(runtime)
    ws = await join(stub)
    ws.send("nap")
    ws.send("next")
    assert await anext(ws) == "next"
    await stub.say("done")
    await anyio.wait_all_tasks_blocked()

    assert seen == ["built", "naps", "next", "wakes"]


@pytest.mark.parametrize("message", ["text", "", b"\x00bytes", b""])
async def test_the_handler_gets_what_was_sent(
    runtime: durable.Runtime, message: str | bytes
) -> None:
    """A str for text, bytes for bytes, empty ones too."""
    ws = await join(room(runtime))
    ws.send(message)

    assert await anext(ws) == message
    assert seen == ["built", message]
    assert type(seen[1]) is type(message)


async def test_messages_of_one_socket_are_handled_in_order(runtime: durable.Runtime) -> None:
    """Also those that came before the object had accepted the socket."""
    client, server = WebSocketPair()
    await room(runtime).take(server)
    client.accept()
    for number in range(200):
        client.send(str(number))

    assert [await anext(client) for _ in range(200)] == [str(number) for number in range(200)]


async def test_handlers_of_one_socket_interleave_where_they_wait_outside(
    runtime: durable.Runtime,
) -> None:
    """The next message is not held up by a handler that waits for the world."""
    DOORS["wait"] = anyio.Event()
    ws = await join(room(runtime))
    ws.send("wait")
    ws.send("next")

    assert await anext(ws) == "next"
    DOORS["wait"].set()
    assert await anext(ws) == "waited"


async def test_an_error_in_a_handler_is_logged_once(
    runtime: durable.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """The socket stays open, and the next message is handled."""
    ws = await join(room(runtime))
    ws.send("boom")
    ws.send("after")

    assert await anext(ws) == "after"
    failures = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in failures] == [
        "websocket_message() of Room('a') failed"
    ]


async def test_without_a_handler_messages_are_dropped(runtime: durable.Runtime) -> None:
    """Nobody is woken for them; a close frame is answered all the same."""
    stub = runtime.namespace(Deaf).get_by_name("a")
    client, server = WebSocketPair()
    await stub.take(server)
    client.accept()
    await evict(stub)
    client.send("x")
    client.close(1000)

    assert await read_all(client) == []
    assert not is_live(stub)
    assert await stub.count() == 0


async def test_a_thousand_sockets_that_speak_at_once_are_all_heard(
    runtime: durable.Runtime,
) -> None:
    """They wait in their sockets, and do not overload the object's queue."""
    DOORS["lock"] = anyio.Event()
    stub = room(runtime)
    sockets = [await join(stub) for _ in range(1_500)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.locked, "lock")
        await anyio.wait_all_tasks_blocked()
        for number, ws in enumerate(sockets):
            ws.send(str(number))
        DOORS["lock"].set()

    assert [await anext(ws) for ws in sockets] == [str(number) for number in range(1_500)]


# Gates


async def test_a_message_waits_for_a_critical_section(runtime: durable.Runtime) -> None:
    """The input gate holds messages back as it does calls; none is lost."""
    DOORS["lock"] = anyio.Event()
    stub = room(runtime)
    ws = await join(stub)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.locked, "lock")
        await anyio.wait_all_tasks_blocked()
        ws.send("x")
        await anyio.wait_all_tasks_blocked()
        assert seen == ["built"]
        DOORS["lock"].set()

    assert await anext(ws) == "x"


async def test_what_is_sent_waits_for_what_it_rests_on(
    runtime: durable.Runtime, faults: Faults, clock: VirtualClock
) -> None:
    """A message leaves when the writes made before it are on disk, and keeps its place."""
    ws = await join(room(runtime))
    with faults.hold_commits():
        ws.send("count")
        ws.send("after")
        await clock.settle()
        assert seen == ["built", "after"]
        assert not end_of(ws).inbox

    assert await anext(ws) == "1"
    assert await anext(ws) == "after"


async def test_what_was_sent_before_a_write_does_not_wait_for_it(
    runtime: durable.Runtime, faults: Faults
) -> None:
    """The seqno is taken at the call."""
    stub = room(runtime)
    ws = await join(stub)

    def send_then_put(instance: Room, ctx: durable.State) -> None:
        instance.say("before")
        ctx.storage.put("x", 1)
        instance.say("after")

    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            tasks.start_soon(run_in_object, stub, send_then_put)
            assert await anext(ws) == "before"
            await anyio.wait_all_tasks_blocked()
            assert not end_of(ws).inbox

    assert await anext(ws) == "after"


async def test_what_rests_on_a_failed_commit_is_never_sent(
    runtime: durable.Runtime, faults: Faults
) -> None:
    """The object is reset, and its sockets are gone."""
    ws = await join(room(runtime))
    faults.fail_commits()
    ws.send("count")

    with pytest.raises(durable.WebSocketClosed, match="1006"):
        await anext(ws)


async def test_a_close_waits_at_the_output_gate_too(
    runtime: durable.Runtime, faults: Faults, clock: VirtualClock
) -> None:
    """A close frame is something said like any other."""
    stub = room(runtime)
    ws = await join(stub)

    def put_then_close(instance: Room, ctx: durable.State) -> None:
        ctx.storage.put("x", 1)
        ctx.get_websockets()[0].close(1000, "stored")

    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            tasks.start_soon(run_in_object, stub, put_then_close)
            await clock.settle()
            assert not end_of(ws).inbox

    assert await read_all(ws) == []
    assert ws.close_reason == "stored"


# How they end


async def test_a_close_frame_is_told_and_answered(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """websocket_close gets code and reason; the socket is listed in its first part only."""
    DOORS["close"] = anyio.Event()
    stub = room(runtime)
    ws = await join(stub, "tag=t")
    ws.close(4003, "bye")
    await clock.settle()

    assert seen == ["built", (4003, "bye", True, True)]
    assert await read_all(ws) == []
    assert ws.close_code == 4003
    assert await stub.say("x") == await stub.say("x", "t") == 0
    DOORS["close"].set()
    await clock.settle()
    assert seen[-1] is False


async def test_an_object_may_close_first(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """The peer's reply is told as the end."""
    ws = await join(room(runtime))
    ws.send("close")

    assert await read_all(ws) == []
    assert (ws.close_code, ws.close_reason) == (4001, "as you wish")
    await clock.settle()
    assert seen == ["built", (4001, "as you wish", True, True)]


async def test_a_lost_connection_is_told_as_1006(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Once, and as not clean."""
    stub = room(runtime)
    ws = await join(stub)
    end_of(ws).drop()
    end_of(ws).drop()
    await clock.settle()

    text = "WebSocket disconnected without sending Close frame."
    assert seen == ["built", (1006, text, False, True)]
    assert await stub.say("x") == 0


async def test_another_failure_is_told_as_an_error(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """websocket_error gets it, and websocket_close is not called as well."""
    ws = await join(room(runtime))
    error = ValueError("too large")
    end_of(ws).drop(error)
    await clock.settle()

    assert seen == ["built", error]


async def test_a_slow_peer_is_cut_and_told(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """A broadcast does not grow the memory for ever: the object hears 1013."""
    stub = room(runtime)
    ws = await join(stub)
    text = "x" * 1_048_576
    for _ in range(18):
        await stub.say(text)
    await clock.settle()

    assert seen[1][0] == 1013
    assert await read_all(ws) == []
    assert ws.close_code == 1013


# Listing, tags, attachments


async def test_sockets_are_listed_by_tag(runtime: durable.Runtime) -> None:
    """All of them with the last one first; those with a tag in order of acceptance."""
    stub = room(runtime)
    pairs = [WebSocketPair() for _ in range(3)]
    for (_, server), tags in zip(pairs, (["a"], ["b", "b"], ["a", "b"]), strict=True):
        await stub.take(server, tags)

    def ask(instance: Room, ctx: durable.State) -> list[list[WebSocket]]:
        assert ctx.get_tags(pairs[1][1]) == ["b"]
        return [ctx.get_websockets(tag) for tag in (None, "a", "b", "c")]

    servers = [server for _, server in pairs]
    assert await run_in_object(stub, ask) == [
        servers[::-1],
        [servers[0], servers[2]],
        [servers[1], servers[2]],
        [],
    ]


async def test_tags_have_limits(runtime: durable.Runtime) -> None:
    """Ten of 256 bytes each, duplicates not counted; the eleventh element is one too many."""
    stub = room(runtime)
    ten = [str(number) for number in range(10)]
    _, server = WebSocketPair()

    with pytest.raises(ValueError, match="cannot have more than 10 tags"):
        await stub.take(server, [*ten, "0"])
    with pytest.raises(ValueError, match=r"longer than the max tag length .256 characters"):
        await stub.take(server, ["é" * 129])
    with pytest.raises(TypeError, match=r"give .tag"):
        await stub.take(server, "tag")
    with pytest.raises(TypeError, match="a tag must be a str"):
        await stub.take(server, [1])
    with pytest.raises(ValueError, match="a tag has a lone surrogate"):
        await run_in_object(stub, lambda _, ctx: ctx.accept_websocket(server, ["\ud800"]))
    await stub.take(
        server,
        [
            "0",
            "0",
            *ten[1:],
        ],
    )


async def test_a_socket_is_accepted_once(runtime: durable.Runtime) -> None:
    """In one of the two ways, and not when its pair is in use."""
    stub = room(runtime)
    client, server = WebSocketPair()
    client.accept()
    with pytest.raises(durable.DurableError, match="its pair has already been accepted"):
        await stub.take(server)
    with pytest.raises(durable.DurableError, match="already accepted via `accept"):
        await stub.take(client)
    _, other = WebSocketPair()
    await stub.take(other)
    with pytest.raises(durable.DurableError, match="accepted before"):
        await stub.take(other)
    with pytest.raises(TypeError, match="after enabling hibernation"):
        other.accept()
    with pytest.raises(TypeError, match="this one is hibernatable"):
        await anext(other)


async def test_an_object_has_a_limited_number_of_sockets(
    tmp_path: Any, clock: VirtualClock
) -> None:
    """Beyond it accepting raises, and a place that is free again can be used."""
    limits = durable.Limits(websockets_max=2)
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        first = await join(stub)
        await join(stub)
        with pytest.raises(durable.TooManyWebSockets, match="only 2 websockets"):
            await join(stub)
        first.close()
        await clock.settle()
        await join(stub)


async def test_only_hibernatable_sockets_have_tags(runtime: durable.Runtime) -> None:
    """Cloudflare's texts for the others."""
    new, classic = WebSocketPair()
    classic.accept()

    def ask(instance: Room, ctx: durable.State) -> None:
        with pytest.raises(TypeError, match="you must call 'accept_websocket"):
            ctx.get_tags(new)
        with pytest.raises(TypeError, match="only hibernatable websockets can have tags"):
            ctx.get_tags(classic)

    await run_in_object(room(runtime), ask)


async def test_an_attachment_is_kept_as_a_copy() -> None:
    """None before there is one, a fresh copy each time, at most 16 KiB."""
    ws, _ = WebSocketPair()
    assert ws.deserialize_attachment() is None
    value = {"list": [1, (2,)]}
    ws.serialize_attachment(value)
    value["list"].append(3)

    assert ws.deserialize_attachment() == {"list": [1, (2,)]}
    assert ws.deserialize_attachment() is not ws.deserialize_attachment()
    with pytest.raises(ValueError, match="cannot be larger than 16384 bytes"):
        ws.serialize_attachment("x" * 16_384)
    with pytest.raises(durable.UnstorableValue):
        ws.serialize_attachment(object())


# Auto-responses


async def test_an_auto_response_wakes_nobody(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """An exact match of a text is answered while the object is out of memory."""
    stub = room(runtime)
    ws = await join(stub)
    assert await stub.set_ping("ping", "pong") == ("ping", "pong")
    assert await stub.pinged() == [None]
    await evict(stub)
    ws.send("ping")

    assert await anext(ws) == "pong"
    assert not is_live(stub)
    assert await stub.pinged() == [datetime.fromtimestamp(clock.now(), UTC)]
    assert seen == ["built", "built"]


@pytest.mark.parametrize("message", [b"ping", "ping ", "pin"])
async def test_only_the_exact_text_is_answered(
    runtime: durable.Runtime, message: str | bytes
) -> None:
    """Anything else goes to the handler."""
    stub = room(runtime)
    ws = await join(stub)
    await stub.set_ping("ping", "pong")
    ws.send(message)

    assert await anext(ws) == message


async def test_an_auto_response_does_not_wait_for_writes(
    runtime: durable.Runtime, faults: Faults
) -> None:
    """It says nothing that rests on them."""
    stub = room(runtime)
    ws = await join(stub)
    await stub.set_ping("ping", "pong")
    other = await join(stub)
    with faults.hold_commits():
        other.send("count")
        await anyio.wait_all_tasks_blocked()
        ws.send("ping")
        assert await anext(ws) == "pong"


async def test_an_auto_response_keeps_its_place(
    runtime: durable.Runtime, faults: Faults, clock: VirtualClock
) -> None:
    """It does not overtake messages of the same socket that wait for the disk."""
    stub = room(runtime)
    ws = await join(stub)
    await stub.set_ping("ping", "pong")
    with faults.hold_commits():
        ws.send("count")
        ws.send("ping")
        await clock.settle()
        assert not end_of(ws).inbox

    assert [await anext(ws), await anext(ws)] == ["1", "pong"]


async def test_an_auto_response_can_be_cleared(runtime: durable.Runtime) -> None:
    """None clears it, and the getter says so."""
    stub = room(runtime)
    ws = await join(stub)
    await stub.set_ping("ping", "pong")
    assert await stub.set_ping(None) is None
    ws.send("ping")

    assert await anext(ws) == "ping"


async def test_auto_responses_have_limits(runtime: durable.Runtime) -> None:
    """2 KiB each, and both are text."""
    stub = room(runtime)

    with pytest.raises(ValueError, match=r"Request cannot be larger than 2048 bytes. A request of"):
        await stub.set_ping("x" * 2_049, "y")
    with pytest.raises(ValueError, match=r"Response cannot be larger than 2048 bytes."):
        await stub.set_ping("x", "y" * 2_049)
    with pytest.raises(TypeError, match="takes two str"):
        await stub.set_ping("x")
    await stub.set_ping("x" * 2_048, "y" * 2_048)


# Hibernation


async def test_sockets_outlive_their_object(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """An idle object is evicted although sockets are open, and a message builds it anew."""
    stub = room(runtime)
    ws = await join(stub, "tag=red&tag=blue&name=ann")
    await clock.advance(11)
    assert not is_live(stub)
    ws.send("who")

    assert await anext(ws) == "{'name': 'ann'} ['red', 'blue']"
    assert seen == ["built", "built"]
    assert await stub.say("x", "blue") == 1


async def test_a_close_wakes_the_object(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """Also one that comes while it is out of memory."""
    stub = room(runtime)
    ws = await join(stub)
    await evict(stub)
    ws.close(1000, "bye")
    await clock.settle()

    assert seen == ["built", "built", (1000, "bye", True, True)]


async def test_eviction_may_close_the_sockets(runtime: durable.Runtime) -> None:
    """`evict(websockets="close")` sends 1001; the object is not told."""
    stub = room(runtime)
    ws = await join(stub)
    await evict(stub, websockets="close")

    assert await read_all(ws) == []
    assert ws.close_code == 1001
    assert seen == ["built"]
    assert await stub.say("x") == 0


@pytest.mark.parametrize("how", ["abort", "abort_all"])
async def test_a_reset_disconnects_the_sockets(runtime: durable.Runtime, how: str) -> None:
    """Peers see 1006, and the next incarnation has none."""
    stub = room(runtime)
    ws = await join(stub)
    if how == "abort":
        ws.send("abort")
    else:
        await abort_all(runtime)

    with pytest.raises(durable.WebSocketClosed, match="1006"):
        await anext(ws)
    assert await room(runtime).say("x") == 0


async def test_a_failed_constructor_disconnects_the_sockets(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that cannot be built anew cannot hear them."""
    stub = room(runtime)
    ws = await join(stub)
    await evict(stub)

    def fail(self: Room, ctx: durable.State, env: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr(Room, "__init__", fail)
    ws.send("x")

    with pytest.raises(durable.WebSocketClosed, match="1006"):
        await anext(ws)


async def test_what_a_failing_constructor_says_is_never_heard(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incarnation that never was has said nothing."""
    stub = room(runtime)
    ws = await join(stub)
    await evict(stub)

    def fail(self: Room, ctx: durable.State, env: Any) -> None:
        ctx.get_websockets()[0].send("I am")
        raise ValueError("no")

    monkeypatch.setattr(Room, "__init__", fail)
    ws.send("x")

    with pytest.raises(durable.WebSocketClosed, match="1006"):
        await anext(ws)


async def test_what_a_constructor_says_comes_first(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves when the object is built, before what its handlers say."""
    stub = room(runtime)
    ws = await join(stub)
    await evict(stub)
    build = Room.__init__

    def greet(self: Room, ctx: durable.State, env: Any) -> None:
        build(self, ctx, env)
        ctx.get_websockets()[0].send("I am")

    monkeypatch.setattr(Room, "__init__", greet)

    await stub.say("then")
    assert [await anext(ws), await anext(ws)] == ["I am", "then"]


async def test_closing_the_store_disconnects_the_sockets(tmp_path: Any) -> None:
    """Those of objects in memory, and of hibernating ones."""
    async with durable.open(tmp_path) as runtime:
        sockets = [await join(room(runtime, name)) for name in ("a", "b")]
        await evict(room(runtime, "a"))

    for ws in sockets:
        with pytest.raises(durable.WebSocketClosed, match="1006"):
            await anext(ws)


async def test_ten_thousand_sockets_hear_one_broadcast(runtime: durable.Runtime) -> None:
    """In one pass, each once."""
    stub = room(runtime)
    sockets = [await join(stub) for _ in range(10_000)]

    assert await stub.say("all") == 10_000
    assert all([await anext(ws) == "all" for ws in sockets])
    assert not any(end_of(ws).inbox for ws in sockets)
