"""Methods of objects of another process."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs
import pytest

import durable
from durable._wire.link import SILENT_BEATS_MAX
from durable._wire.peer import Peer

from .conftest import Pair

pytestmark = pytest.mark.anyio


@attrs.define
class Order:
    number: int


@attrs.define
class Basket:
    """Of a class that no object declares."""

    number: int


class Refusal(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    def echo(self, value: object, order: Order | None = None) -> object:
        return value if order is None else order

    def basket(self):  # type: ignore[no-untyped-def]
        return Basket(2)

    async def refuse(self) -> None:
        raise Refusal(7, "no")

    async def refuse_at_length(self, size: int) -> None:
        error = Refusal(7, "é" * size)
        error.add_note("n" * size)
        raise ExceptionGroup("several", [error] * 32) from error

    async def refuse_unseen(self) -> None:
        error = Refusal(7, "no")
        error.__notes__ = 5  # type: ignore[assignment]
        raise error

    async def refuse_locally(self) -> None:
        class Inner(Exception):
            pass

        raise Inner("only here")


async def test_a_method_is_called_and_its_result_comes(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")

    assert await stub.increment() == 1
    assert await stub.increment(5) == 6
    assert await stub.increment(by=4) == 10
    assert await pair.local(Counter, "a").increment() == 11


async def test_a_call_with_a_key_happens_once(pair: Pair) -> None:
    """Whichever process makes it."""
    stub, local = pair.stub(Counter, "a"), pair.local(Counter, "a")

    assert await stub.call(Counter.increment, 5, once="k") == 5
    assert await stub.call(Counter.increment, 5, once="k") == 5
    assert await local.call(Counter.increment, 5, once="k") == 5
    with pytest.raises(durable.OnceConflict):
        await stub.call(Counter.increment, once="k")
    with pytest.raises(durable.UnstorableValue):
        await stub.call(Counter.echo, print, once="other")
    assert await stub.increment() == 6


async def test_calls_on_one_stub_reach_the_object_in_their_order(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")
    answers = [stub.increment() for _ in range(50)]

    assert [await answer for answer in answers] == list(range(1, 51))


async def test_values_come_equal_and_of_the_same_type(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")
    value = {"list": [1, (2, {3})], 4: b"five", "id": stub.id, "order": Order(7)}

    got = await stub.echo(value)

    assert got == value
    assert isinstance(got["list"][1], tuple)  # type: ignore[index]


async def test_an_instance_of_a_class_that_is_not_declared_does_not_cross(pair: Pair) -> None:
    """Neither way, and the error says so; within a process it is copied."""
    stub = pair.stub(Counter, "a")

    with pytest.raises(durable.UnstorableValue, match=r"`values = \[Basket\]` in Counter"):
        stub.echo([Basket(1)])
    with pytest.raises(durable.UnstorableValue, match=r"`values = \[Basket\]` in Counter"):
        await stub.basket()
    assert await pair.local(Counter, "a").basket() == Basket(2)


async def test_stubs_cross_and_call_the_same_object(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")

    other = await stub.echo([stub])

    assert other == [stub]


async def test_an_exception_arrives_as_its_own_class_with_the_far_traceback(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")

    with pytest.raises(Refusal) as caught:
        await stub.refuse()

    assert caught.value.code == 7
    assert caught.value.args == (7, "no")
    assert any("in refuse" in note for note in caught.value.__notes__)


async def test_an_exception_of_a_class_that_cannot_be_found_is_a_remote_error(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")

    with pytest.raises(durable.RemoteError) as caught:
        await stub.refuse_locally()

    assert caught.value.class_name.endswith("Inner")
    assert caught.value.text == "only here"


async def test_an_exception_of_any_size_ends_no_connection(pair: Pair) -> None:
    """What is too much of it is left out, and other calls get their answers."""
    stub = pair.stub(Counter, "a")

    with pytest.raises(ExceptionGroup) as caught:
        await stub.refuse_at_length(4_000_000)

    assert all(type(error) is durable.RemoteError for error in caught.value.exceptions)
    assert await stub.increment() == 1


async def test_an_exception_that_cannot_be_looked_at_has_its_name(pair: Pair) -> None:
    """And its caller an answer."""
    stub = pair.stub(Counter, "a")

    with anyio.fail_after(10), pytest.raises(durable.RemoteError) as caught:
        await stub.refuse_unseen()

    assert caught.value.class_name == "Refusal"


async def test_calls_under_way_are_told_when_the_process_goes(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")
    await stub.increment()
    answer = stub.increment()
    pair.peer.link.connection.flush()
    pair.server.close()

    with pytest.raises(durable.ObjectUnreachable) as caught:
        await answer

    assert caught.value.retryable
    assert "may have been carried out" in str(caught.value)


def _hears_nothing(peer: Peer) -> None:
    peer.link.connection.has_heard = False
    peer.link._silent_beats = SILENT_BEATS_MAX - 1
    peer.link._beats()


def _is_lost(peer: Peer) -> None:
    peer.link.connection._lose("it cannot be read")


@pytest.mark.parametrize("ends", [_hears_nothing, _is_lost])
async def test_a_call_that_has_not_left_was_not_carried_out(
    pair: Pair, ends: Callable[[Peer], None]
) -> None:
    """Nor is it later: it may be sent again. The other process may have been stopped, and reads all
    that has left when it goes on."""
    stub = pair.stub(Counter, "a")
    await stub.increment()
    under_way, answer = stub.increment(), stub.increment()
    ends(pair.peer)

    with pytest.raises(durable.ObjectUnreachable, match="may have been carried out"):
        await under_way
    with pytest.raises(durable.ObjectUnreachable, match="was not carried out"):
        await answer
    while not pair.caller.is_gone:
        await anyio.sleep(0)
    assert await pair.local(Counter, "a").increment() == 3


async def test_a_call_that_leaves_with_the_end_of_its_link_may_be_carried_out(pair: Pair) -> None:
    """A process that closes the link sends what waits, so that its last answers arrive."""
    stub = pair.stub(Counter, "a")
    await stub.increment()
    answers = [stub.increment(), stub.increment()]
    pair.peer.close()

    for answer in answers:
        with pytest.raises(durable.ObjectUnreachable, match="may have been carried out"):
            await answer


async def test_a_message_that_is_too_large_is_refused_at_the_call(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")

    with pytest.raises(durable.MessageTooLarge):
        stub.echo(b"x" * (64 * 2**20 + 1))

    assert await stub.increment() == 1


async def test_delete_deletes(pair: Pair) -> None:
    stub = pair.stub(Counter, "a")
    await stub.increment()

    await stub._channel.delete_all()  # type: ignore[union-attr]

    assert await stub.increment() == 1


async def test_a_call_is_refused_when_the_other_process_does_not_read(pair: Pair) -> None:
    """What it is to read is bounded; what was sent before is answered."""
    stub = pair.stub(Counter, "a")
    await stub.increment()
    pair.peer._calls.waiting_bytes_max = 1_000
    answers = [stub.echo(bytes(400)) for _ in range(6)]

    with pytest.raises(durable.ObjectOverloaded, match="does not read"):
        await answers[-1]
    assert await answers[0] == bytes(400)
    assert await stub.increment() == 2
