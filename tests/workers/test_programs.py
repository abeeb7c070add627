"""Programs in the style of Cloudflare's public examples, which run here as they would there."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after

import durable
from durable import WebSocket
from durable.testing import evict, run_alarm, run_in_object

from .conftest import PROGRAMS, Run

pytestmark = pytest.mark.backends("asyncio", "uvloop")


async def test_a_list_is_kept_by_an_object(run: Run) -> None:
    """Methods are called through the stub, values come back as Python's, JSON goes out."""
    async with run(program="lists") as opened:
        assert (await opened.get("/")).status == 400
        assert json.loads(await opened.text("/food?add=tea&add=rice")) == ["tea", "rice"]
        assert json.loads(await opened.text("/books")) == []
    async with run(program="lists") as opened:
        response = await opened.get("/food?add=salt")
        assert json.loads(await response.text()) == ["tea", "rice", "salt"]
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-list"] == "food"
        assert (await opened.get("/food", method="DELETE")).status == 204
        assert json.loads(await opened.text("/food")) == []


async def joined(opened: Any, name: str) -> WebSocket:
    response = await opened.get(f"/garden?{name}", headers={"Upgrade": "websocket"})
    assert response.status == 101
    ws: WebSocket = response.websocket
    ws.accept()
    return ws


async def heard(ws: WebSocket) -> Any:
    return json.loads(await anext(ws))


async def test_a_chat_room_hibernates_with_its_sockets_open(run: Run) -> None:
    """Attachments and tags are there when the object is built anew; its memory is not."""
    async with run(program="chat") as opened:
        assert "Chat" in await opened.text("/")
        assert (await opened.get("/garden")).status == 426
        ada, bo = await joined(opened, "ada"), await joined(opened, "bo")
        assert await heard(ada) == {"welcome": "ada", "history": []}
        assert await heard(bo) == {"welcome": "bo", "history": []}

        ada.send("hello")
        assert await heard(bo) == {"from": "ada", "text": "hello"}
        ada.send(b"bytes too")
        assert await heard(bo) == {"from": "ada", "text": "BYTES TOO"}

        stub = opened.runtime.env.ROOMS.get_by_name("garden")
        await evict(stub)
        bo.send("who")
        assert await heard(bo) == ["ada", "bo"]
        ada.send("ping")
        assert await anext(ada) == "pong"
        cy = await joined(opened, "cy")
        assert await heard(cy) == {"welcome": "cy", "history": []}

        ada.send("leave")
        assert [message async for message in ada] == []
        assert (ada.close_code, ada.close_reason) == (4000, "as you wish")
        bo.close(4001, "bye")
        assert [message async for message in bo] == []
        assert await stub.last_to_leave() == [4001, "bye", True]


async def test_modules_beside_the_main_one_are_imported_by_their_names(run: Run) -> None:
    """At the start and later; `workers.env` is that of the Worker that asks."""
    async with run(program="garden") as opened:
        assert json.loads(await opened.text()) == ["garden in spring", "bed of spring"]
    async with run(program="garden", environment="winter") as opened:
        assert json.loads(await opened.text()) == ["garden in winter", "bed of winter"]


async def test_an_object_reads_the_web_socket_of_a_server(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its listeners run as events of the object, and may abort it; an alarm keeps it going."""
    server = pytest.importorskip("websockets.asyncio.server")
    release = asyncio.Event()
    connections = []

    async def last(thing: Any, ctx: durable.State) -> Any:
        return await ctx.storage.get("last")

    async def serve(connection: Any) -> None:
        connections.append(connection)
        await connection.send('{"number": 1}')
        await connection.send('{"number": 2}')
        if len(connections) == 1:
            await release.wait()
            await connection.close(4000)
        else:
            await connection.wait_closed()

    async with server.serve(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        shutil.copytree(PROGRAMS / "feed", tmp_path / "feed")
        (tmp_path / "feed" / ".dev.vars").write_text(f'SOURCE = "ws://127.0.0.1:{port}"')
        async with run(program="feed") as opened:
            first = json.loads(await opened.text())
            assert first == {"connected": False, "last": None, "alarm": True}
            while not connections:
                await asyncio.sleep(0.01)
            stub = opened.runtime.env.READER.get_by_name("one")

            with fail_after(10):
                while await run_in_object(stub, last) != 2:
                    await asyncio.sleep(0.01)
                assert json.loads(await opened.text())["connected"]
                assert await run_alarm(stub)
                assert len(connections) == 1

                release.set()
                while "the source has closed: 4000" not in caplog.text:
                    await asyncio.sleep(0.01)
                await opened.get()  # the object was aborted, and is built anew
                while len(connections) < 2:
                    await asyncio.sleep(0.01)


async def test_the_test_kit_reaches_the_object_of_the_author(run: Run) -> None:
    """`instance` of what the library runs is the object of the Worker's class."""
    async with run(program="lists") as opened:
        stub = opened.runtime.env.LISTS.get_by_name("food")

        def look(thing: Any, ctx: durable.State) -> str:
            return type(thing.instance).__name__

        assert await run_in_object(stub, look) == "ShoppingList"
        assert isinstance(stub, durable.Stub)
