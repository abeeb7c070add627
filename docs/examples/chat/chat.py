"""Chat rooms: Cloudflare's demonstration of Durable Objects, made anew.

A room is an object. It keeps its members' sockets and the last hundred messages, sleeps while
nobody speaks, and survives a restart. A second class limits how fast one address may speak.

    uvicorn chat:app
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any, cast

import durable
import durable.asgi
from durable import Request, Response, WebSocket, WebSocketPair

PAGE = Path(__file__).with_name("chat.html")

BACKLOG = 100
NAME_SIZE_MAX = 32
MESSAGE_SIZE_MAX = 256
ROOM_SIZE_MAX = 32

# One message in five seconds on average, and twenty seconds' worth of them at once.
MESSAGE_COSTS_S = 5.0
GRACE_S = 20.0


class ChatRoom(durable.DurableObject):
    """One room."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        # The newest message. Times serve as keys, so no two may be the same.
        self.newest = max(ctx.storage.kv.list(reverse=True, limit=1), default="")
        # The addresses that have said too much, and until when they must wait. It is looked at when
        # they speak again: a task that slept meanwhile would keep the room in memory, and a server
        # that stops would wait for it.
        self.cooling: dict[str, float] = {}
        ctx.set_websocket_auto_response("ping", "pong")

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        # What is attached is there when the room wakes up again; attributes are not.
        address = request.headers.get("cf-connecting-ip", "unknown")
        server.serialize_attachment({"address": address, "name": None})
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        member = ws.deserialize_attachment()
        said = parse(message)
        if said is None:
            say(ws, error="That was no message.")
        elif member["name"] is None:
            self.join(ws, member, said.get("name"))
        elif self.is_cooling(member["address"]):
            say(ws, error="Your address is being rate-limited, please try again later.")
        else:
            # Counted beside the handler: to wait for it here would let the next message overtake.
            self.ctx.wait_until(self.count(member["address"]))
            self.post(ws, member["name"], said.get("message"))

    async def count(self, address: str) -> None:
        wait_s = await self.env.LIMITERS.get_by_name(address).take()
        if wait_s > 0:
            self.cooling[address] = time.time() + wait_s

    def is_cooling(self, address: str) -> bool:
        if time.time() < self.cooling.get(address, 0.0):
            return True
        self.cooling.pop(address, None)
        return False

    def join(self, ws: WebSocket, member: dict[str, Any], name: Any) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_SIZE_MAX:
            say(ws, error=f"A name has 1 to {NAME_SIZE_MAX} characters.")
            ws.close(1009, "no good name")
            return
        ws.serialize_attachment({**member, "name": name})
        for other in self.members():
            if other is not ws:
                say(ws, joined=name_of(other))
        for stored in reversed(self.ctx.storage.kv.list(reverse=True, limit=BACKLOG).values()):
            ws.send(stored)
        self.tell_all(joined=name)
        say(ws, ready=True)

    def post(self, ws: WebSocket, name: str, text: Any) -> None:
        if not isinstance(text, str) or not 0 < len(text) <= MESSAGE_SIZE_MAX:
            say(ws, error=f"A message has 1 to {MESSAGE_SIZE_MAX} characters.")
            return
        key = max(f"{int(time.time() * 1000):015}", f"{int(self.newest or 0) + 1:015}")
        self.newest = key
        message = json.dumps({"name": name, "message": text, "timestamp": int(key)})
        # The output gate holds the message back until it is on disk: what anybody has seen in the
        # room is still there after a crash.
        self.ctx.storage.put(key, message)
        too_old = list(self.ctx.storage.kv.list(reverse=True))[BACKLOG:]
        self.ctx.storage.delete(too_old)
        for member in self.members():
            member.send(message)

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        name = name_of(ws)
        if name is not None:
            self.tell_all(quit=name)

    def members(self) -> list[WebSocket]:
        """The sockets of those who have given their name, in the order in which they came."""
        return [ws for ws in reversed(self.ctx.get_websockets()) if name_of(ws) is not None]

    def tell_all(self, **said: Any) -> None:
        for ws in self.members():
            say(ws, **said)


class RateLimiter(durable.DurableObject):
    """How fast one address may speak, in all rooms together."""

    async def take(self) -> float:
        """Count one message; answers for how many seconds there should be no other."""
        now_s = time.time()
        next_s: float = max(now_s, await self.ctx.storage.get("next_s", 0.0)) + MESSAGE_COSTS_S
        self.ctx.storage.put("next_s", next_s)
        return max(0.0, next_s - now_s - GRACE_S)


def parse(message: str | bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(message)
    except ValueError:
        return None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else None


def say(ws: WebSocket, **said: Any) -> None:
    ws.send(json.dumps(said))


def name_of(ws: WebSocket) -> str | None:
    name: str | None = ws.deserialize_attachment()["name"]
    return name


async def fetch(request: Request, env: Any) -> Response:
    match request.url.path.split("/")[1:]:
        case [""]:
            return Response(PAGE.read_bytes(), headers={"content-type": "text/html;charset=UTF-8"})
        case ["api", "room"] if request.method == "POST":
            # A private room: whoever has its id can come in, and nobody can guess it.
            return Response(str(env.ROOMS.new_unique_id()))
        case ["api", "room", name, "websocket"]:
            if request.headers.get("upgrade", "").lower() != "websocket":
                return Response("expected a WebSocket", status=400)
            room = find_room(env, name)
            return await room.fetch(request) if room else Response("no such room", status=404)
        case _:
            return Response("not found", status=404)


def find_room(env: Any, name: str) -> Any:
    if re.fullmatch(r"[0-9a-f]{64}", name):
        try:
            return env.ROOMS.get(env.ROOMS.id_from_string(name))
        except durable.InvalidId:
            return None
    return env.ROOMS.get_by_name(name) if 0 < len(name) <= ROOM_SIZE_MAX else None


app = durable.asgi.app(
    fetch,
    os.environ.get("STORE", "chat-store"),
    bindings={"ROOMS": ChatRoom, "LIMITERS": RateLimiter},
)
