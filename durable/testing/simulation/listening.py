"""The sockets of the object under simulation: what arrives at them, and what it sends on them.

An upgrade is an operation of the object, and so is every message; the answer comes back as a
message. The object also announces its changes on sockets.
"""

from __future__ import annotations

import json
from typing import Any

from durable._border.websocket import WebSocketPair
from durable._model.errors import WebSocketClosed
from durable._model.messages import Request, Response
from durable._model.websocket import WebSocket

from .connections import PING, PONG, Connection, End
from .storing import Storing

TAGS = ("red", "blue")


class Listening(Storing):
    """Keeps sockets, which outlive it when it is evicted."""

    async def do(
        self, stub: int, number: int, kind: str, change: int, how: dict[str, Any]
    ) -> list[Any]:
        """Carry out one operation, or two where its kind has two; returns for each."""
        raise NotImplementedError

    def _listen(self) -> None:
        """In the constructor: set the auto-response, and check the connected sockets."""
        sockets = self.history.listed(self.name)
        if self.ctx.get_websocket_auto_response() is None:
            if sockets:
                self.history.broken(f"P13: {self.name} has forgotten its auto-response")
            self.ctx.set_websocket_auto_response(PING, PONG)
        self._look_at_sockets()

    async def _connect(self, request: Request) -> Response:
        """An upgrade: the operation that it asks for, and a socket."""
        order = json.loads(await request.text())
        connection = self.history.connections[order.pop("connection")]
        answers = await self.do(**order)
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server, tags=connection.tags)
        self.history.accepted(connection, server)
        self._keep(connection, server, {"number": connection.number, "count": 0})
        self._look_at_sockets()
        if order["how"]["greets"]:
            self._say(connection, server, {"hello": answers}, order["change"])
        return Response(status=101, headers={"answers": json.dumps(answers)}, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == PING:
            self.history.broken(f"P13: {self.name} was woken for what has an auto-response")
            return
        connection = self._connection_of(ws)
        order = json.loads(message)
        connection.arrives(order["number"])
        self._look_at_sockets()
        kept = ws.deserialize_attachment()
        kept["count"] += 1
        if order["how"]["keeps"]:
            self._keep(connection, ws, kept)
        kept["count"] = -1  # which changes nothing of what is kept
        answers = await self.do(**{**order, "stub": 0})
        self._say(connection, ws, {"order": order["number"], "answers": answers}, order["change"])

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        await self._hear_end(ws, End(code, reason, was_clean))

    async def websocket_error(self, ws: WebSocket, error: Exception) -> None:
        await self._hear_end(ws, End(None, str(error), False))

    async def _hear_end(self, ws: WebSocket, end: End) -> None:
        connection = self._connection_of(ws)
        connection.object_hears(end)
        self._look_at_sockets()
        self.history.tick(f"  {self.name} hears {end} of socket {connection.number}")
        if self.chance.random() < 0.3:
            self._close(connection, ws, 4_009)
        connection.is_gone = True
        await self._pause(1)  # after its first step the handler does not find the socket any more
        self._look_at_sockets()

    # What it says

    def _broadcast(self, change: int, n: int, tag: str) -> None:
        """Announce a change on all sockets of a tag."""
        for ws in self.ctx.get_websockets(tag or None):
            self._say(self._connection_of(ws), ws, {"change": change, "n": n}, change)

    def _say(self, connection: Connection, ws: WebSocket, what: Any, change: int) -> None:
        if not connection.can_say:
            return
        text = json.dumps(what)
        message = text.encode() if self.chance.random() < 0.2 else text
        self.history.says(connection, message, change)
        try:
            ws.send(message)
        except WebSocketClosed as error:
            self.history.broken(
                f"socket {connection.number} is open, and refuses {what}: {error!r}"
            )

    def _close(self, connection: Connection, ws: WebSocket, code: int, change: int = 0) -> None:
        if connection.can_say:
            self.history.says(connection, End(code, "enough", True), change)
            ws.close(code, "enough")

    # What it knows

    def _keep(self, connection: Connection, ws: WebSocket, kept: dict[str, Any]) -> None:
        ws.serialize_attachment(kept)
        connection.attachment = dict(kept)

    def _connection_of(self, ws: WebSocket) -> Connection:
        """By its attachment, which is all that a woken object knows of it."""
        kept = ws.deserialize_attachment() or {}
        for connection in self.history.connections_of(self.name):
            if connection.end is ws:
                if connection.attachment != kept:
                    self.history.broken(
                        f"P13: {connection!r} has the attachment {kept} of {connection.attachment}"
                    )
                return connection
        self.history.broken(f"P13: {self.name} has a socket that it was never given: {ws!r}")
        raise AssertionError(f"{self.name} never had {ws!r}")

    def _look_at_sockets(self) -> None:
        """Check that `get_websockets` returns what the object was given, in its order."""
        known = self.history.connections_of(self.name)
        for tag in (None, *TAGS):
            found = [self._connection_of(ws) for ws in self.ctx.get_websockets(tag)]
            if tag is None:
                found.reverse()
            tagged = [c for c in known if tag is None or tag in c.tags]
            missing = [c for c in tagged if c.is_listed and c not in found]
            too_many = [c for c in found if c not in tagged or not c.may_be_listed]
            if missing or too_many or found != sorted(found, key=known.index):
                self.history.broken(
                    f"P13: {self.name} has the {tag} sockets {found}, in the order of acceptance; "
                    f"it lacks {missing}, and has {too_many} without a reason"
                )
