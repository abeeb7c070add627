"""How two processes meet: greetings, versions, and a process that is its own peer."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import attrs
import pytest

import durable
from durable._engine.shards import NotOwner
from durable._wire.calls import FarCall, NotBegun, Target
from durable._wire.channel import RemoteChannel
from durable._wire.frames import VERSION, Kind
from durable._wire.peer import Greeting, Peer, Refused, connect, meet_self

from .conftest import Pair

pytestmark = pytest.mark.anyio


class Quiet(durable.DurableObject):
    async def add(self, value: int, fn: Callable[[int], int] | None = None) -> int:
        return value + 1 if fn is None else await fn(value)  # type: ignore[misc, no-any-return]


async def _meet(pair: Pair, greeting: Greeting) -> Peer:
    side = pair.callers
    return await connect(pair.server.path, greeting, side.crossing, side.reach)


async def test_only_the_user_may_connect(pair: Pair) -> None:
    assert stat.S_IMODE(os.stat(pair.server.path).st_mode) == 0o600


async def test_a_process_of_the_next_version_is_spoken_with(pair: Pair) -> None:
    """It knows more frames and more fields, which are passed over."""
    peer = await _meet(pair, attrs.evolve(pair.callers.greeting, version=VERSION + 1))
    peer.link.send(99, "a frame of the next version")
    number = pair.objects.runtime.namespace(Quiet).record.number
    target = Target(number, pair.callers.runtime.namespace(Quiet).id_from_name("a"), Quiet)
    port = peer.port(target)
    call: FarCall[int] = FarCall(
        peer.link.loop, target, Kind.CALL, "add", ("add", b"\x91\x91\x05", None, "more"), None
    )
    port.send(call)

    assert await call == 6
    peer.close()


async def test_a_process_of_a_version_too_far_off_is_refused(pair: Pair) -> None:
    greeting = attrs.evolve(pair.callers.greeting, version=VERSION + 2, version_min=VERSION + 1)
    with pytest.raises(Refused, match="next to each other"):
        await _meet(pair, greeting)


async def test_a_process_of_another_store_is_refused(pair: Pair) -> None:
    with pytest.raises(Refused, match="another store"):
        await _meet(pair, attrs.evolve(pair.callers.greeting, store=b"other"))


async def test_nobody_listens(pair: Pair) -> None:
    pair.server.close()

    with pytest.raises(durable.ObjectUnreachable, match="no process listens"):
        await _meet(pair, pair.callers.greeting)


async def test_a_call_in_a_frame_comes_to_an_object_of_this_very_process(pair: Pair) -> None:
    side = pair.objects
    peer = await meet_self(side.greeting, side.crossing, side.reach)
    namespace = side.runtime.namespace(Quiet)
    target = Target(namespace.record.number, namespace.id_from_name("a"), Quiet)
    channel = RemoteChannel(side.crossing, target, peer.port(target))

    assert await channel.call("add", (1,), {}) == 2
    assert await channel.call("add", (3, lambda value: value * 2), {}) == 6
    peer.close()


async def test_calls_for_an_object_that_is_elsewhere_come_back_in_order(pair: Pair) -> None:
    """Those after the first too, although the process has the object again by then."""
    namespace = pair.callers.runtime.namespace(Quiet)
    number = pair.objects.runtime.namespace(Quiet).record.number
    target = Target(number, namespace.id_from_name("a"), Quiet)
    port = pair.peer.port(target)
    back: list[tuple[object, NotBegun]] = []

    class Router:
        def settled(self, call: FarCall[int]) -> None:
            raise AssertionError

        def returned(self, call: FarCall[int], why: NotBegun) -> None:
            back.append((call, why))

    reach = pair.server.reach
    asked = 0

    class Moving:
        def channel_of(self, class_number: int, object_id: durable.ObjectId) -> object:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise NotOwner
            return reach.channel_of(class_number, object_id)

    served = pair.caller.served
    served.reach = Moving()  # type: ignore[assignment]
    calls: list[FarCall[int]] = []
    for _ in range(3):
        call: FarCall[int] = FarCall(
            pair.peer.link.loop, target, Kind.CALL, "add", ("add", b"\x91\x91\x05"), None
        )
        call.router = Router()
        calls.append(call)
        port.send(call)
    other = pair.peer.port(target)
    last: FarCall[int] = FarCall(
        pair.peer.link.loop, target, Kind.CALL, "add", ("add", b"\x91\x91\x07"), None
    )
    other.send(last)

    assert await last == 8
    assert back == [(call, NotBegun.MOVED) for call in calls]
    assert port.is_gone
