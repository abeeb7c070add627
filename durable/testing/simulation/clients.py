"""Clients: programs outside of objects with web sockets to them, and requests by messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from anyio.abc import TaskGroup
from attrs import define, field

import durable
from durable._border.websocket import end_of
from durable._model.websocket import WebSocket

from .connections import DROPPED, NO_CODE, PING, Connection, End
from .history import History
from .listening import TAGS
from .model import Operation
from .orders import NAMES, NOT_BY_SOCKET, draw
from .subject import Subject

OPEN_MAX = 6
DROPPED_TEXT = "WebSocket disconnected without sending Close frame."


@define(eq=False)
class Client:
    """The outer end of one socket, and the messages that have no answer yet."""

    connection: Connection
    ws: WebSocket
    asked: dict[int, list[Operation]] = field(factory=dict)


@define(eq=False)
class Clients:
    """All clients of one life."""

    history: History
    namespace: durable.Namespace[Subject]
    tasks: TaskGroup
    unconfirmed: float
    is_live: Callable[[str], bool]  # whether the object of a name is in memory
    open_calls: int = 0
    _clients: list[Client] = field(factory=list)

    # What they do

    def connect(self) -> None:
        """Ask an object for a socket."""
        if len(self._clients) + self.open_calls >= OPEN_MAX:
            return
        chance = self.history.chance
        name = chance.choice(NAMES)
        tags = tuple(tag for tag in TAGS if chance.random() < 0.5)
        connection = self.history.connected(name, tags)
        order = draw(self.history, name, self.unconfirmed, NOT_BY_SOCKET | {"stop"})
        message = {**order.message(0, 0), "connection": self.history.connections.index(connection)}
        self.history.tick(f"asks {name} for socket {connection.number}")
        answer = self.namespace.get_by_name(name).fetch(
            "https://subject/",
            headers={"upgrade": "websocket"},
            method="POST",
            body=json.dumps(message),
        )
        self.tasks.start_soon(self._use, connection, answer, order.operations)

    def send(self) -> None:
        """Send one message or more on a socket."""
        client = self._choose()
        if client is None:
            return
        connection, chance = client.connection, self.history.chance
        for _ in range(chance.choice([1, 1, 2, 5])):
            order = draw(self.history, connection.object, self.unconfirmed, NOT_BY_SOCKET)
            connection.orders_sent += 1
            client.asked[connection.orders_sent] = order.operations
            text = json.dumps(order.message(0, connection.orders_sent))
            self.history.tick(f"sends {connection.orders_sent} on socket {connection.number}")
            if not self.is_live(connection.object):
                self.history.count("wakes by a socket")
            client.ws.send(text.encode() if chance.random() < 0.2 else text)

    def ping(self) -> None:
        """Send what has an auto-response: it wakes no object."""
        client = self._choose()
        if client is None:
            return
        connection = client.connection
        was_live = self.is_live(connection.object)
        connection.pings += 1
        self.history.tick(f"pings on socket {connection.number}")
        client.ws.send(PING)
        if self.is_live(connection.object) and not was_live:
            self.history.broken(f"P13: a ping on socket {connection.number} has woken its object")

    def close(self) -> None:
        """Close a socket, with or without a code."""
        client = self._choose()
        if client is None:
            return
        connection = client.connection
        code, reason = self.history.chance.choice([(None, None), (1_000, None), (4_000, "bye")])
        self._ends(client, End(NO_CODE if code is None else code, reason or "", True))
        self.history.tick(f"closes socket {connection.number}")
        client.ws.close(code, reason)

    def drop(self) -> None:
        """Disappear without a close frame, or with an error of the connection."""
        client = self._choose()
        if client is None:
            return
        self.history.tick(f"drops socket {client.connection.number}")
        if self.history.chance.random() < 0.7:
            self._ends(client, End(DROPPED, DROPPED_TEXT, False))
            end_of(client.ws).drop()
        else:
            self._ends(client, End(None, "the line is dead", False))
            end_of(client.ws).drop(ConnectionError("the line is dead"))

    def _choose(self) -> Client | None:
        """A socket that this side has not ended, nor heard the end of."""
        if not self._clients:
            return None
        client = self.history.chance.choice(self._clients)
        # To send to a peer that is gone has no effect.
        return None if client.connection.is_cut else client

    def _ends(self, client: Client, end: End) -> None:
        client.connection.client_ends(end)
        self._clients.remove(client)

    # What they hear

    async def _use(self, connection: Connection, answer: Any, operations: list[Operation]) -> None:
        self.open_calls += 1
        try:
            response = await answer
        except (durable.DurableError, ValueError) as error:
            self.history.failed(error)
            return
        finally:
            self.open_calls -= 1
        self.history.count("sockets")
        self.history.tick(f"has socket {connection.number}")
        for operation, heard in zip(
            operations, json.loads(response.headers["answers"]), strict=True
        ):
            self.history.heard(operation, heard)
        connection.outer = ws = response.websocket
        ws.accept()
        client = Client(connection, ws)
        self._clients.append(client)
        await self._read(client)

    async def _read(self, client: Client) -> None:
        connection, ws = client.connection, client.ws
        try:
            async for message in ws:
                self.history.hears(connection, message)
                self._take(client, message)
        except durable.WebSocketClosed:
            pass
        if client in self._clients:
            self._clients.remove(client)
        heard = end_of(ws).heard
        was_clean = heard is not None and heard.was_clean
        self.history.hears(connection, End(ws.close_code, ws.close_reason or "", was_clean))

    def _take(self, client: Client, message: str | bytes) -> None:
        """The operations of this client that a message answers."""
        if message[:1] not in ("{", b"{"):
            return
        reply = json.loads(message)
        if "order" in reply:
            operations = client.asked.pop(reply["order"], [])
            for operation, answer in zip(operations, reply["answers"], strict=True):
                self.history.heard(operation, answer)
