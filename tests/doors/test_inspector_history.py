"""The history of an object in the inspector: its bookmarks, what changed between two, and the way
back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import inspector

from .browser import browsing
from .inspected import HOSTILE, TOKEN, Counter, get, go, inspecting, post

WHICH = {"class": "Ledger", "id": HOSTILE}


class Ledger(durable.DurableObject):
    """It can go back."""

    history = timedelta(days=30)

    async def put(self, key: str, value: Any) -> str:
        """A bookmark of the moment before."""
        before: str = await self.ctx.storage.get_current_bookmark()
        self.ctx.storage.put(key, value)
        return before

    async def all(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[durable.Runtime]:
    async with durable.open(tmp_path / "store", bindings={"L": Ledger, "C": Counter}) as runtime:
        yield runtime


async def test_what_changed_is_told(runtime: durable.Runtime) -> None:
    """Between a bookmark and now, or between two; what was not there is said not to have been."""
    stub = runtime.env.L.get_by_name(HOSTILE)
    await stub.put("a", 1)
    second = await stub.put("a", 2)
    third = await stub.put(HOSTILE, "x" * 3_000)
    app = inspector.app(runtime, token=TOKEN)

    found = (await get(app, "/api/history", **WHICH)).json
    assert (found["is_kept"], found["is_all"]) == (True, True)
    assert sum(chapter["keys"] for chapter in found["chapters"]) >= 1

    between = (await get(app, "/api/changes", start=second, end=third, **WHICH)).json
    assert between["changes"] == [
        {
            "kind": "key",
            "name": "a",
            "before": {"is_there": True, "value": 1},
            "after": {"is_there": True, "value": 2},
        }
    ]
    now = (await get(app, "/api/changes", start=third, **WHICH)).json
    assert now["changes"] == [
        {
            "kind": "key",
            "name": HOSTILE,
            "before": {"is_there": False},
            "after": {"is_there": True, "why": "str of 3,000"},
        }
    ]
    wrong = await get(app, "/api/changes", start="no bookmark", **WHICH)
    assert (wrong.status, bool(wrong.json["error"])) == (422, True)


async def test_an_object_without_a_history_says_so(runtime: durable.Runtime) -> None:
    """It is no error: most have none."""
    await runtime.env.C.get_by_name("a").keep("value", 1)
    app = inspector.app(runtime, token=TOKEN)

    answer = await get(app, "/api/history", **{"class": "Counter", "id": "a"})

    assert answer.json == {"is_kept": False}


async def test_an_object_goes_back(runtime: durable.Runtime) -> None:
    """And comes again, by the bookmark that it is told; only where writing is allowed."""
    stub = runtime.env.L.get_by_name(HOSTILE)
    await stub.put("a", 1)
    before = await stub.put("a", 2)
    restore = {"do": "restore", **WHICH, "to": before}
    assert (await post(inspector.app(runtime, token=TOKEN), restore)).status == 403
    app = inspector.app(runtime, token=TOKEN, write=True)

    undo = (await post(app, restore)).json["undo"]

    assert await runtime.env.L.get_by_name(HOSTILE).all() == {"a": 1}
    assert (await post(app, {**restore, "to": undo})).status == 200
    assert await runtime.env.L.get_by_name(HOSTILE).all() == {"a": 2}
    assert (await post(app, {**restore, "to": "no bookmark"})).status == 422


def test_a_history_in_a_browser(tmp_path: Path) -> None:
    """A comparison shows what changed; going back asks first."""
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")

    async def fill() -> None:
        async with durable.open(tmp_path / "store", bindings={"L": Ledger}) as runtime:
            await runtime.env.L.get_by_name("a").put("a", HOSTILE)

    anyio.run(fill)
    button = "[...document.querySelectorAll('{}')].find((b) => b.textContent === '{}')"
    with (
        inspecting(tmp_path / "store", "--write", program=None) as address,
        browsing(tmp_path / "profile") as browser,
    ):
        page = browser.open(address)
        page.wait("document.querySelector('main table') !== null")
        go(page, "#/object/Ledger/a", "document.querySelector('.history') !== null")
        page.evaluate(button.format(".history button", "What changed?") + ".click()")
        page.wait("document.querySelector('.history [role=status] table') !== null")
        assert HOSTILE in page.evaluate("document.querySelector('.history').textContent")
        page.evaluate(button.format(".history button", "go back") + ".click()")
        page.wait("document.querySelector('dialog[open]') !== null")
        page.evaluate(button.format("dialog button", "Go back") + ".click()")
        page.wait("document.querySelector('#result').textContent.startsWith('It is as it was')")
        assert page.evaluate("document.querySelectorAll('main img').length") == 0
