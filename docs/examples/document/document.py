"""A document that several people write at once.

A document is an object. A change says on which version it was made; the object moves it past the
changes that came meanwhile, stores it, and sends it to everybody in one order.

    uvicorn document:app
"""

from __future__ import annotations

import json
import os
from typing import Any

import durable
import durable.asgi
from durable import Request, Response, WebSocket, WebSocketPair

CHANGES_KEPT = 1_000
SIZE_MAX = 100_000


class Document(durable.DurableObject):
    """One text, and its last changes."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        self.send_all_of_it(server)
        return Response(status=101, websocket=client)

    def send_all_of_it(self, ws: WebSocket) -> None:
        kv = self.ctx.storage.kv
        ws.send(json.dumps({"version": kv.get("version", 0), "text": kv.get("text", "")}))

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        """A change: at *at* remove *remove* characters and insert *insert*."""
        kv = self.ctx.storage.kv
        version, text = kv.get("version", 0), kv.get("text", "")
        change = parse(message)
        if change is None or not 0 <= version - change["base"] <= CHANGES_KEPT:
            self.send_all_of_it(ws)  # what was meant is not known: begin anew
            return
        for number in range(change["base"], version):
            change = moved_past(change, kv.get(f"change {number:012}"))
        at, remove, insert = change["at"], change["remove"], change["insert"]
        if at + remove > len(text) or len(text) + len(insert) - remove > SIZE_MAX:
            self.send_all_of_it(ws)
            return
        change = {"version": version + 1, "at": at, "remove": remove, "insert": insert}
        self.ctx.storage.put(
            {
                "text": text[:at] + insert + text[at + remove :],
                "version": version + 1,
                f"change {version:012}": change,
            }
        )
        self.ctx.storage.delete(f"change {version - CHANGES_KEPT:012}")
        # The output gate holds it back until it is on disk: what anybody sees is not lost.
        for each in self.ctx.get_websockets():
            each.send(json.dumps(change))


def parse(message: str | bytes) -> dict[str, Any] | None:
    try:
        change = json.loads(message)
        numbers = [change[name] for name in ("base", "at", "remove")]
        is_one = isinstance(change["insert"], str) and all(type(n) is int for n in numbers)
    except (ValueError, TypeError, KeyError):
        return None
    return change if is_one and min(numbers) >= 0 else None


def moved_past(change: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """*change*, made beside *other* on the same text, as it is to be made on the text after it."""
    start = moved(change["at"], other)
    end = moved(change["at"] + change["remove"], other) if change["remove"] else start
    return {**change, "at": start, "remove": end - start}


def moved(place: int, other: dict[str, Any]) -> int:
    at: int = other["at"]
    remove: int = other["remove"]
    size = len(other["insert"])
    if place < at:
        return place
    if place >= at + remove:
        return place + size - remove
    return at + size  # it was removed: behind what stands there now


async def fetch(request: Request, env: Any) -> Response:
    match request.url.path.split("/")[1:]:
        case ["documents", name]:
            return await env.DOCUMENTS.get_by_name(name).fetch(request)  # type: ignore[no-any-return]
        case _:
            return Response("not found", status=404)


app = durable.asgi.app(
    fetch, os.environ.get("STORE", "documents"), bindings={"DOCUMENTS": Document}
)
