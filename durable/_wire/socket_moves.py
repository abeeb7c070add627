"""The hibernatable sockets of an object that moves to another process move with it, unnoticed.

The process that has the client of a socket keeps the connection. The former owner of the object
asks it to stop (`LET_GO`), receives all that was sent until then, and hands the new owner what
there is of each socket: its tags, its attachment, the messages not handled yet, and where its
client is. The new owner makes ends of its own, and the client's process connects its own to them
(`ADOPT`).

The description may go through several processes, if the first one does not get the shard. The
client's process hears of each (`HELD`), so that it knows when there is none to wait for.

Rule: a socket that cannot move is closed, with 1012 for the client: at once if the process that has
its description is gone, and after a bounded time at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import anyio

from durable._border.socket_end import End, join
from durable._border.sockets import Sockets
from durable._border.websocket import ObjectSocket, end_of
from durable._gates.futures import PendingAnswer, wait_done
from durable._model.frames import Close, size_of
from durable._model.ids import ObjectId

from .crossing import Crossing
from .peer import Peer
from .sockets import Relay

# How long a former owner waits for what is under way.
LETTING_GO_S_MAX: Final = 1.0


async def let_go(
    crossing: Crossing, sockets: Sockets, holder: str, epoch: int, *, keeps_clients: bool
) -> list[Any] | None:
    """The description of the sockets that the object takes along, a value for the process *holder*;
    None if there are none. They do not belong to this process any more, which owned their object at
    *epoch*.

    With *keeps_clients*, those whose clients are in this process move too; a process that closes
    cannot keep them.
    """
    relays = crossing.moves.relays

    def may_go(end: End) -> bool:
        peer = end.peer()
        return peer is not None and (keeps_clients or peer in relays)

    going: list[tuple[ObjectSocket, list[Any], Relay | None, PendingAnswer[None] | None]] = []
    for ws in sockets.let_go(may_go):
        end = end_of(ws)
        peer = end.peer()
        relay = None if peer is None else relays.get(peer)
        if relay is None:
            going.append((ws, crossing.moves.park_here(end, holder), None, None))
        else:
            going.append((ws, relay.where, relay, relay.let_go(holder)))
    with anyio.move_on_after(LETTING_GO_S_MAX):
        for _, _, _, answer in going:
            if answer is not None:
                await wait_done(answer)
    moving = [_described(ws, where) for ws, where, _, _ in going]
    for _, _, relay, _ in going:
        if relay is not None:
            relay.leave()
    auto_response = sockets.auto_response
    if not moving:
        return None
    return [
        sockets.class_number,
        sockets.object_id.raw,
        sockets.object_id.name,
        None if auto_response is None else [*auto_response],
        moving,
        epoch,
    ]


def epoch_of(description: list[Any]) -> int:
    """The epoch at which a process has had the object, and its sockets, last."""
    epoch: int = description[5]
    return epoch


def clients_of(description: list[Any]) -> Iterator[list[Any]]:
    """For each socket the process of its client, and how that one knows it."""
    for *_, where in description[4]:
        yield where


def object_of(description: list[Any]) -> tuple[int, ObjectId]:
    """The object whose sockets they are: the number of its class, and its id."""
    return description[0], ObjectId(description[1], description[2])


def take_over(
    crossing: Crossing,
    peer_of: Callable[[str], Peer | None],
    sockets: Sockets,
    description: list[Any],
) -> None:
    """The object belongs to this process now: give it the sockets that it had."""
    if description[3] is not None:
        sockets.set_auto_response(*description[3])
    for tags, attachment, answered_s, frames, (client, *known) in description[4]:
        end, other = End(), End()
        join(end, other)
        ws = ObjectSocket(end)
        ws.put_attachment(sockets.services.codec_of(sockets.cls), attachment)
        if answered_s is not None:
            ws.answered_at = datetime.fromtimestamp(answered_s, UTC)
        for frame in frames:
            if isinstance(frame, list):
                other.say(Close(*frame), 0)
            elif other.reserve(size_of(frame)):
                other.say(frame, size_of(frame))
        relay = Relay(other)
        peer = peer_of(client)
        sockets.take_over(ws, tags)
        if peer is None:
            relay.end.drop()
        else:
            peer.sockets.adopt(relay, sockets.class_number, *known)


def _described(ws: ObjectSocket, where: list[Any]) -> list[Any]:
    end = end_of(ws)
    frames = [
        [frame.code, frame.reason, frame.was_clean] if isinstance(frame, Close) else frame
        for frame, _ in end.inbox
    ]
    answered_s = None if ws.answered_at is None else ws.answered_at.timestamp()
    return [[*ws.tags], ws.take_attachment(), answered_s, frames, where]
