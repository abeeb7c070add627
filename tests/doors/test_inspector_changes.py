"""Changes from the inspector: each through the program that has the store, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import durable
from durable import inspector, operate
from durable.testing import evict_all, is_live, run_in_object

from .browser import Page, browsing
from .inspected import HOSTILE, TOKEN, Counter, get, go, inspecting, post


class Failing(durable.DurableObject):
    """Its alarm fails."""

    async def remind(self) -> None:
        self.ctx.storage.set_alarm(timedelta(days=1))

    async def alarm(self) -> None:
        raise ValueError("the alarm of the test fails")


class Clocked(durable.DurableObject):
    """It has timers."""

    async def set(self, name: str) -> None:
        self.ctx.timers.set(name, timedelta(days=1), "tea")

    async def timer(self, name: str, payload: Any) -> None:
        self.ctx.storage.put(f"rang {name}", payload)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[durable.Runtime]:
    async with durable.open(tmp_path / "store", bindings={"C": Counter, "F": Failing}) as runtime:
        for name in ("a", HOSTILE):
            await runtime.env.C.get_by_name(name).keep("value", 1)
        yield runtime


@pytest.fixture
async def app(runtime: durable.Runtime) -> inspector.Inspector:
    return inspector.app(runtime, token=TOKEN, write=True)


A = {"class": "Counter", "id": "a"}


async def values(app: inspector.Inspector, name: str = "a") -> dict[str, Any]:
    answer = await get(app, "/api/object", **{"class": "Counter", "id": name})
    return {item["key"]: item["value"] for item in answer.json["items"]}


async def test_a_value_is_stored_by_its_object(
    app: inspector.Inspector, runtime: durable.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """As an event of it, with a line in the log; hostile names are names."""
    with caplog.at_level(logging.INFO, "durable"):
        for name in ("a", HOSTILE):
            change = {"do": "put", "class": "Counter", "id": name, "key": HOSTILE, "value": "[1]"}
            assert (await post(app, change)).json == {}

    assert await values(app) == {"value": 1, HOSTILE: [1]}
    assert await values(app, HOSTILE) == {"value": 1, HOSTILE: [1]}
    said = f"an operator's order to Counter({HOSTILE!r}): put {HOSTILE!r}"
    assert said in caplog.messages


@pytest.mark.parametrize(
    "value", [1, 1.0, 2**70, "text", None, {"a": (1, {2})}, b"x", float("inf"), {1: 2}]
)
async def test_what_is_not_changed_keeps_its_type(app: inspector.Inspector, value: Any) -> None:
    """The text that a value is changed by, stored as it is, is the same value."""
    runtime: durable.Runtime = app._source._runtime  # type: ignore[attr-defined]
    stub = runtime.env.C.get_by_name("a")
    await stub.keep("value", value)
    text = (await get(app, "/api/value", key="value", **A)).json["text"]

    assert (await post(app, {"do": "put", **A, "key": "other", "value": text})).status == 200

    other = await run_in_object(stub, lambda _, ctx: ctx.storage.get("other"))
    assert (other, type(other)) == (value, type(value))


async def test_a_key_and_a_whole_object_are_deleted(app: inspector.Inspector) -> None:
    """And it is said whether they were there."""
    assert (await post(app, {"do": "delete", **A, "key": "no"})).json == {"was_there": False}
    assert (await post(app, {"do": "delete", **A, "key": "value"})).json == {"was_there": True}
    await post(app, {"do": "put", **A, "key": "other", "value": "1"})
    assert (await post(app, {"do": "delete", **A})).json == {"was_there": True}

    assert (await get(app, "/api/object", **A)).status == 422, "it is gone"


async def test_an_alarm_runs_now(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """Whatever its time; what its handler raises is said, and retried as ever."""
    change = {"do": "alarm", **A}
    assert (await post(app, change)).json == {"ran": False, "error": None}
    await runtime.env.C.get_by_name("a").remind(3)
    assert (await post(app, change)).json == {"ran": True, "error": None}
    assert (await post(app, change)).json == {"ran": False, "error": None}

    await runtime.env.F.get_by_name("a").remind()
    answer = await post(app, {"do": "alarm", "class": "Failing", "id": "a"})
    assert answer.json == {"ran": True, "error": "ValueError: the alarm of the test fails"}
    alarms = (await get(app, "/api/alarms")).json["alarms"]
    assert [found["alarm"]["retry_count"] for found in alarms] == [1]


async def test_a_timer_runs_now(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """The one that is named; an object that has timers has no alarm to run."""
    await runtime.namespace(Clocked).get_by_name("a").set(HOSTILE)
    which = {"do": "alarm", "class": "Clocked", "id": "a"}

    assert "say which" in (await post(app, which)).json["error"]
    assert (await post(app, {**which, "timer": HOSTILE})).json == {"ran": True, "error": None}

    found = (await get(app, "/api/object", **{"class": "Clocked", "id": "a"})).json
    assert [item["key"] for item in found["items"]] == [f"rang {HOSTILE}"]
    assert found["timers"] == []


async def test_an_object_is_evicted(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """If it is in memory, and has nothing more to do."""
    stub = runtime.env.C.get_by_name("a")
    assert is_live(stub)
    assert (await post(app, {"do": "evict", **A})).json == {}
    assert not is_live(stub)
    again = await post(app, {"do": "evict", **A})
    assert (again.status, is_live(stub)) == (422, False)
    assert "not in memory" in again.json["error"]


async def test_an_object_is_reset(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """At once: a call that never ends gets the reason; what was stored stays."""
    stub = runtime.env.C.get_by_name("a")
    call = stub.wait()

    assert (await post(app, {"do": "abort", **A})).json == {}

    with pytest.raises(durable.ObjectAborted, match="an operator reset the object"):
        await call
    assert await values(app) == {"value": 1}


async def test_what_an_object_does_now_is_told(
    app: inspector.Inspector, runtime: durable.Runtime
) -> None:
    """Its calls, and its sockets with their tags; one that is not in memory is not woken."""
    stub = runtime.env.C.get_by_name("a")
    client = await stub.accept(["x", HOSTILE])
    client.accept()
    await evict_all(runtime)

    now = (await get(app, "/api/memory", **A)).json

    socket = {"tags": ["x", HOSTILE], "hibernates": True, "unread": 0}
    assert now == {
        "is_live": False,
        "open_deliveries": 0,
        "queued_deliveries": 0,
        "websockets": 1,
        "sockets": [socket],
    }
    assert not is_live(stub)
    client.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        ({}, 400),
        ({"do": "drop", **A}, 404),
        ({"do": "put", **A, "key": "k"}, 400),
        ({"do": "put", **A, "key": "k", "value": 5}, 400),
        ({"do": "put", **A, "key": "k", "value": "text"}, 400),
        ({"do": "put", **A, "key": "k", "value": "NaN"}, 400),
        ({"do": "put", **A, "key": "k", "value": '{"$odd": 1}'}, 400),
        ({"do": "put", **A, "key": "k", "value": "[" * 100_000}, 400),
        ({"do": "put", **A, "key": "k", "value": '"\\ud800"'}, 422),
        ({"do": "put", **A, "key": "k" * 5_000, "value": "1"}, 422),
        ({"do": "put", **A, "key": "k", "value": f'"{"x" * 3_000_000}"'}, 422),
        ({"do": "put", "class": "Nobody", "id": "a", "key": "k", "value": "1"}, 422),
        ({"do": "put", "class": "Counter", "id": "f" * 64, "key": "k", "value": "1"}, 422),
        ({"do": "alarm", **A, "timer": "t"}, 422),
    ],
)
async def test_a_change_that_cannot_be_made_says_why(
    app: inspector.Inspector, change: Any, status: int
) -> None:
    """In words, and nothing is done."""
    answer = await post(app, change)

    assert answer.status == status
    assert answer.json["error"]
    assert await values(app) == {"value": 1}


def test_where_no_program_has_the_store_what_is_stored_is_changed(
    tmp_path: Path, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the inspector itself, with a line in its own log; what needs the code of the objects is
    refused."""
    import anyio

    store = tmp_path / "store"

    async def fill() -> None:
        async with durable.open(store, bindings={"C": Counter}) as runtime:
            await runtime.env.C.get_by_name("a").keep("value", 1)

    async def change() -> None:
        app = inspector.app(store, token=TOKEN, write=True)
        put = {"do": "put", **A, "key": "value", "value": "2"}
        assert (await post(app, put)).json == {}
        assert await values(app) == {"value": 2}
        for do in ("alarm", "evict", "abort"):
            refused = await post(app, {"do": do, **A})
            assert refused.status == 422
            assert "operate=True" in refused.json["error"]
        assert "operate=True" in (await get(app, "/api/memory", **A)).json["error"]
        assert (await post(app, {"do": "delete", **A})).json == {"was_there": True}

    anyio.run(fill, backend=anyio_backend_name)
    with caplog.at_level(logging.INFO, "durable"):
        anyio.run(change, backend=anyio_backend_name)
    assert "inspector: put 'value' of 'Counter' 'a'" in caplog.messages
    with operate.look(store) as looked:
        assert list(looked.objects()) == []


# In a browser


def click(page: Page, text: str, within: str = "document") -> None:
    """Click the button of this text, which is there."""
    button = f"[...{within}.querySelectorAll('button')].find((b) => b.textContent === '{text}')"
    page.wait(f"{button} !== undefined")
    page.evaluate(f"{button}.click()")


DIALOG = "document.querySelector('dialog[open]')"
RESULT = "document.querySelector('#result')?.textContent"


def test_changes_in_a_browser(tmp_path: Path) -> None:
    """A question comes first, which Escape denies; then what came of it is said. Names and values
    are never markup."""
    pytest.importorskip("apsw")
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    with inspecting(tmp_path / "store", "--write") as address, browsing(tmp_path / "p") as browser:
        page = browser.open(address)
        page.wait("document.querySelector('main table') !== null")
        place = f"#/object/Counter/{quote(HOSTILE, safe='')}"
        go(page, place, "document.querySelector('.row-tools') !== null")

        click(page, "delete")
        page.wait(f"{DIALOG} !== null")
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.command(
            "Input.dispatchKeyEvent", type="keyDown", key="Escape", windowsVirtualKeyCode=27
        )
        page.wait(f"{DIALOG} === null")
        assert page.evaluate("document.querySelectorAll('.row-tools').length") == 1

        click(page, "change")
        page.wait(f"{DIALOG} !== null")
        page.evaluate(f"{DIALOG}.querySelector('textarea').value = 'no JSON'")
        click(page, "Store it", DIALOG)
        page.wait(f"{DIALOG}?.querySelector('.error').textContent.includes('not JSON')")
        page.evaluate(f"{DIALOG}.querySelector('textarea').value = '\"<b>bold</b>\"'")
        click(page, "Store it", DIALOG)
        page.wait(f"{RESULT}.startsWith('Stored')")
        page.wait("document.querySelector('.string')?.textContent === '\"<b>bold</b>\"'")

        go(page, "#/object/Counter/page 000", "document.querySelector('.row-tools') !== null")
        click(page, "Run its alarm now")
        click(page, "Run it now", DIALOG)
        page.wait(f"{RESULT} === 'The handler of the alarm has run.'")
        click(page, "Evict from memory")
        click(page, "Evict it", DIALOG)
        page.wait(f"{DIALOG} === null || {DIALOG}.querySelector('.error').textContent !== ''")
        page.evaluate(f"{DIALOG}?.close()")

        go(page, "#/object/Counter/shop", "document.querySelector('[aria-label=changes]') !== null")
        click(page, "Delete the object")
        click(page, "Delete all of it", DIALOG)
        page.wait("document.querySelector('h1')?.textContent === 'Counter'")
        assert "shop" in page.evaluate(RESULT)

        page.command(
            "Emulation.setDeviceMetricsOverride",
            width=360, height=700, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        go(page, place, "document.querySelector('.row-tools') !== null")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        click(page, "change")
        page.wait(f"{DIALOG} !== null")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("document.querySelectorAll('main img, dialog img').length") == 0
