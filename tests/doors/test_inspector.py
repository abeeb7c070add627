"""The inspector: what it tells, whom, and how it looks in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

import durable
from durable import inspector
from durable.inspector import views
from durable.inspector.sources import FolderSource
from durable.testing import evict_all

from .browser import browsing
from .inspected import (
    HOSTILE,
    ROOT,
    TOKEN,
    Answer,
    Counter,
    get,
    go,
    inspecting,
    keep_picture,
    press,
    scope_of,
    stream,
)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[durable.Runtime]:
    async with durable.open(tmp_path / "store", bindings={"COUNTERS": Counter}) as runtime:
        counters = runtime.env.COUNTERS
        for number in range(250):
            await counters.get_by_name(f"page {number:03}").keep("value", number)
        hostile = counters.get_by_name(HOSTILE)
        await hostile.keep("<script>document.title = 'hacked'</script>", {"a": [1, {2}], "b": b"x"})
        await hostile.keep("large", "x" * 30_000)
        await hostile.remind(3)
        await evict_all(runtime)
        yield runtime


@pytest.fixture
async def app(runtime: durable.Runtime) -> inspector.Inspector:
    """Of a runtime of this program."""
    return inspector.app(runtime, token=TOKEN)


# What it tells


async def test_the_overview_counts(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """Classes, objects and what the file is like; the folder says the same."""
    answer = (await get(app, "/api/overview")).json

    assert answer["classes"] == [{"label": "Counter", "objects": 251, "is_all": True}]
    assert answer["measures"]["objects"] == 251
    assert answer["path"] == runtime._path


async def test_objects_come_page_by_page(app: inspector.Inspector) -> None:
    """Each once; a search by name finds those that are far behind."""
    names: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await get(app, "/api/objects", **{"class": "Counter", **after})).json
        names += [found["name"] for found in page["objects"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert sorted(names) == sorted([*(f"page {n:03}" for n in range(250)), HOSTILE])

    found = (await get(app, "/api/objects", **{"class": "Counter", "prefix": "page 01"})).json
    assert sorted(each["name"] for each in found["objects"]) == [f"page 01{n}" for n in range(10)]
    assert found["objects"][0]["keys"] == 1


async def test_one_object_is_told_whole(app: inspector.Inspector) -> None:
    """By name or id: keys with types and sizes, values, the alarm. A large value is left out."""
    answer = (await get(app, "/api/object", **{"class": "Counter", "id": HOSTILE})).json
    same = (await get(app, "/api/object", **{"class": "Counter", "id": answer["id"]})).json

    assert answer == same
    assert answer["name"] == HOSTILE
    assert answer["alarm"]["retry_count"] == 0
    script, large = answer["items"]
    assert (script["type"], script["value"]) == (
        "dict",
        {"a": [1, {"$set": [2]}], "b": {"$bytes": "eA=="}},
    )
    assert large["too_large"]
    assert large["bytes"] > 30_000
    some = await get(app, "/api/object", **{"class": "Counter", "id": HOSTILE, "prefix": "l"})
    assert [item["key"] for item in some.json["items"]] == ["large"]


async def test_alarms_are_told_in_their_order(app: inspector.Inspector) -> None:
    """With their objects."""
    answer = (await get(app, "/api/alarms")).json

    assert [found["name"] for found in answer["alarms"]] == [HOSTILE]


async def test_tables_can_be_asked(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """By what only reads."""
    pytest.importorskip("apsw")
    await runtime.env.COUNTERS.get_by_name("sql").table()
    which = {"class": "Counter", "id": "sql"}

    assert (await get(app, "/api/tables", **which)).json["tables"][0]["name"] == "t"
    answer = (await get(app, "/api/rows", query="SELECT * FROM t", **which)).json
    assert answer == {"columns": ["a", "b"], "rows": [[1, "x"], [2, None]], "is_all": True}
    refused = await get(app, "/api/rows", query="DELETE FROM t", **which)
    assert refused.status == 422
    assert "only reads" in refused.json["error"]


async def test_looking_wakes_nobody(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """Whatever is asked."""
    Counter.made = 0
    for path in ("/api/overview", "/api/alarms"):
        await get(app, path)
    await get(app, "/api/objects", **{"class": "Counter"})
    await get(app, "/api/object", **{"class": "Counter", "id": "page 001"})

    assert Counter.made == 0
    assert runtime.statistics().live_objects == 0


async def test_what_happens_is_streamed(app: inspector.Inspector, runtime: durable.Runtime) -> None:
    """Reports each second, and what happened four times a second; a page that leaves ends both."""
    async with stream(app, "/api/reports") as reports, stream_of_events(app) as events:
        report = await reports.receive()
        assert report["statistics"]["live_objects"] == 0
        await anyio.sleep(0)
        await runtime.env.COUNTERS.get_by_name("page 001").keep("value", 1)
        with anyio.fail_after(10):
            said = await events.receive()
            while said["event"] != "Sample":
                said = await events.receive()
            while report["calls"] == 0:
                report = await reports.receive()
        (ended,) = [event for event in said["events"] if event["event"] == "DeliveryEnded"]
        assert (ended["class_name"], ended["name"]) == ("Counter", "page 001")
        assert report["calls"] == 1
        assert report["call_s"]["99"] > 0
        assert report["memory_bytes"] is None or report["memory_bytes"] > 1 << 20
    assert runtime._services.hooks is None, "nobody observes any more"


@asynccontextmanager
async def stream_of_events(app: inspector.Inspector) -> AsyncIterator[Any]:
    """It has begun when the first is observed."""
    async with stream(app, "/api/events") as events:
        for _ in range(5):
            await anyio.sleep(0)
        yield events


# Whom


@pytest.mark.parametrize(
    "headers", [{"authorization": ""}, {"authorization": "Bearer x"}, {"authorization": TOKEN}]
)
async def test_without_the_token_nothing_is_told(
    app: inspector.Inspector, headers: dict[str, str]
) -> None:
    """Not by any question; the page itself knows nothing."""
    reading = ("overview", "objects", "object", "value", "memory", "alarms", "rows", "processes")
    for path in (*reading, "about", "reports", "events", "change", "nothing"):
        answer = await get(app, f"/api/{path}", {"headers": headers})
        assert answer.status == 401
        assert set(answer.json) == {"error"}
    page = await get(app, "/", {"headers": headers})
    assert page.status == 200
    assert b"page 0" not in page.body


async def test_other_sites_get_nothing(runtime: durable.Runtime) -> None:
    """Not by a name of theirs that points here, not in a frame, not by writing."""
    app = inspector.app(runtime, token=TOKEN, hosts={"127.0.0.1", "::1"})
    for host, status in {
        "127.0.0.1:80": 200,
        "[::1]:80": 200,
        "evil.example": 421,
        "": 421,
    }.items():
        assert (await get(app, "/api/overview", {"headers": {"host": host}})).status == status
    answer = await get(app, "/api/overview")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert (await get(app, "/api/overview", {"method": "POST"})).status == 405


async def test_what_is_no_store_is_refused_at_the_call(tmp_path: Path) -> None:
    """And not by the first question."""
    with pytest.raises(FileNotFoundError):
        inspector.app(tmp_path / "nothing", token=TOKEN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        inspector.app(tmp_path / "empty", token=TOKEN)
    with pytest.raises(TypeError, match=r"durable\.open"):
        inspector.app(5, token=TOKEN)  # type: ignore[arg-type]


async def test_the_password_of_a_database_is_not_shown() -> None:
    """Not in the path, and not in why its programs cannot be watched."""
    source = FolderSource("postgresql://user:secret@127.0.0.1:1/none")

    assert source.path == "postgresql://user:***@127.0.0.1:1/none"
    questions = (
        lambda: anext(source.reports()),
        lambda: anext(source.events()),
        lambda: source.in_memory("Counter", "a"),
        source.processes,
    )
    for ask in questions:
        with pytest.raises(durable.StoreUnavailable, match=r"user:\*\*\*@") as refused:
            await ask()
        assert "secret" not in str(refused.value)


async def test_hosts_are_several_names(runtime: durable.Runtime) -> None:
    """A str would be taken for its letters."""
    with pytest.raises(TypeError, match="several names"):
        inspector.app(runtime, token=TOKEN, hosts="127.0.0.1")
    with pytest.raises(ValueError, match="ASCII"):
        inspector.app(runtime, token="ein Schlüssel mit Umlaut")


async def test_a_token_that_is_too_short_is_refused(runtime: durable.Runtime) -> None:
    """It is all that keeps strangers out."""
    with pytest.raises(ValueError, match="at least 16 characters"):
        inspector.app(runtime, token="short")
    with pytest.raises(TypeError):
        inspector.app(runtime, token=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/api/nothing", {}, 404),
        ("/other", {}, 404),
        ("/api/objects", {}, 400),
        ("/api/objects", {"class": "Nobody"}, 422),
        ("/api/objects", {"class": "Counter", "after": "zz"}, 422),
        ("/api/objects", {"class": "Counter", "after": "00"}, 422),
        ("/api/objects", {"class": "Counter", "order": "color"}, 422),
        ("/api/objects", {"class": "Counter", "order": "keys", "beyond": "{"}, 422),
        ("/api/objects", {"class": "Counter", "order": "keys", "beyond": '[0, "a", "0"]'}, 422),
        ("/api/objects", {"class": "Counter", "order": "name", "beyond": '[0, 5, "0"]'}, 422),
        ("/api/object", {"class": "Counter", "id": "nobody"}, 422),
        ("/api/memory", {"class": "Nobody", "id": "a"}, 422),
        ("/api/value", {"class": "Counter", "id": "nobody", "key": "a"}, 422),
        ("/api/tables", {"class": "Counter", "id": "page 001"}, 422),
    ],
)
async def test_what_cannot_be_answered_says_why(
    app: inspector.Inspector, path: str, asked: dict[str, str], status: int
) -> None:
    """As an error of its own, in words."""
    answer = await get(app, path, **asked)

    assert answer.status == status
    assert answer.json["error"]


async def test_it_can_be_mounted_in_an_application(runtime: durable.Runtime) -> None:
    """Under a path of its own; without the last slash one is sent there."""
    httpx = pytest.importorskip("httpx")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    application = Starlette(routes=[Mount("/inspect", app=inspector.app(runtime, token=TOKEN))])
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        page = await client.get("/inspect", follow_redirects=True)
        assert page.status_code == 200
        assert str(page.url) == "http://app/inspect/"
        assert (await client.get("/inspect/inspector.js")).status_code == 200
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = await client.get("/inspect/api/overview", headers=headers)
        assert answer.json()["classes"][0]["objects"] == 251


def test_no_value_can_become_markup() -> None:
    """The page makes elements and text, and never reads text as markup."""
    folder = ROOT / "durable/inspector/page"
    script = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.js"))
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in script
    page = (ROOT / "durable/inspector/page/index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(https?:)?//", page), "nothing comes from elsewhere"


# In a browser


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of `durable inspect`, beside a program that has the store open."""
    pytest.importorskip("apsw")
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    with inspecting(tmp_path / "store") as address:
        yield address


def test_the_pages_in_a_browser(address: str, tmp_path: Path) -> None:
    """Each shows what it is for; hostile names and values are shown as they are. With
    DURABLE_PICTURES set, the pictures of the guide are made anew."""
    heading = "document.querySelector('h1')?.textContent"
    rows = "document.querySelectorAll('tbody tr').length"
    with browsing(tmp_path / "profile") as browser:
        page = browser.open(address)
        page.wait("document.querySelectorAll('.plots svg polyline').length >= 2")
        assert "token" not in page.evaluate("location.href")
        assert page.evaluate("document.querySelector('#state').className") == "live"
        if os.environ.get("DURABLE_PICTURES"):  # with something to see
            line = "document.querySelector('.plots polyline').getAttribute('points').split(' ')"
            page.wait(f"{line}.length > 20")
        keep_picture(page, "inspector-overview")

        go(page, "#/class/Counter", f"{rows} === 100")
        page.evaluate("[...document.querySelectorAll('button')].at(-1).click()")
        page.wait(f"{rows} === 200")
        first = "document.querySelector('tbody a').textContent"
        buttons = "[...document.querySelectorAll('th button')]"
        for title, name in {"name": HOSTILE, "next alarm": "page 000"}.items():
            page.evaluate(f"{buttons}.find((b) => b.textContent === {title!r}).click()")
            page.wait(f"{rows} === 100 && {first} === {json.dumps(name)}")
        page.evaluate("document.querySelector('input').focus()")
        page.type_line("page 01")
        page.wait(f"{rows} === 10")

        go(page, f"#/object/Counter/{quote(HOSTILE, safe='')}", f"{heading}?.includes('<img')")
        page.wait(f"{rows} === 1")
        keep_picture(page, "inspector-object")
        assert page.evaluate("document.images.length") == 0
        assert page.evaluate("document.title") == "durable inspector"

        go(page, "#/object/Counter/shop", "document.querySelector('textarea') !== null")
        page.evaluate("document.querySelector('section button').click()")
        page.wait("document.querySelectorAll('section .wide').length === 2")
        page.evaluate("document.querySelector('textarea').value = 'DELETE FROM t'")
        page.evaluate("document.querySelector('section button').click()")
        page.wait("document.querySelector('section .error') !== null")

        go(page, "#/alarms", "document.querySelectorAll('circle').length === 3")
        go(page, "#/live", f"{rows} > 20")
        keep_picture(page, "inspector-live")
        page.evaluate("document.querySelector('select').value = '3'")
        page.evaluate("document.querySelector('select').dispatchEvent(new Event('change'))")
        cells = "[...document.querySelectorAll('tbody tr td:nth-child(2)')]"
        kinds = f"{cells}.map((cell) => cell.textContent)"
        page.wait(f"{kinds}.length > 2 && new Set({kinds}).size === 1")
        assert page.evaluate(kinds)[0] == "commit"

        go(page, "#/processes", f"{rows} === 1")
        pid = page.evaluate("document.querySelector('tbody td').textContent").strip()
        assert pid in page.evaluate("document.querySelector('#state').textContent")
        go(page, "#/object/Counter/nobody", "document.querySelector('.error') !== null")

        page.command(
            "Emulation.setDeviceMetricsOverride",
            width=360, height=700, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        for place in ("#/", "#/class/Counter", "#/alarms", "#/live", "#/processes"):
            go(
                page,
                place,
                "document.querySelector('h1') !== null && !document.querySelector('.error')",
            )
            assert page.evaluate("document.documentElement.scrollWidth <= 360"), place


def test_the_keyboard_is_enough(address: str, tmp_path: Path) -> None:
    """Pages by their numbers, links by j and k, the search by a slash."""
    with browsing(tmp_path / "profile") as browser:
        page = browser.open(address)
        page.wait("document.querySelectorAll('main a').length > 0")
        press(page, "j")
        assert page.evaluate("document.activeElement.tagName") == "A"
        for key, title in {"2": "Live", "3": "Alarms", "4": "Processes", "1": "Overview"}.items():
            press(page, key)
            page.wait(f"document.querySelector('h1')?.textContent === '{title}'")
        go(page, "#/class/Counter", "document.querySelector('input') !== null")
        press(page, "/")
        assert page.evaluate("document.activeElement.type") == "search"


def test_without_the_token_in_its_address_the_page_says_so(address: str, tmp_path: Path) -> None:
    """And shows nothing."""
    with browsing(tmp_path / "profile") as browser:
        page = browser.open(address.partition("?")[0])
        page.wait("document.querySelector('.error')?.textContent.includes('token') === true")


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """In the place of tables without rows; what it says runs, and is seen then. A folder that is no
    store is an error of the command."""
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    from durable.cli import main

    assert main(["inspect", str(tmp_path / "nothing")]) == 1
    store = tmp_path / "store"

    async def make() -> None:
        async with durable.open(store):
            pass

    anyio.run(make)
    with inspecting(store, program=None) as address, browsing(tmp_path / "profile") as browser:
        page = browser.open(address)
        page.wait("document.querySelector('pre.code') !== null")
        program = page.evaluate("document.querySelector('pre.code').textContent")
        program = program.replace("asyncio.sleep(60)", "asyncio.sleep(0)")
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        page.command("Page.reload")
        page.wait("document.querySelector('main td a')?.textContent === 'Counter'")


class Clocks(durable.DurableObject):
    async def set(self, *payloads: Any) -> None:
        for number, payload in enumerate(payloads):
            self.ctx.timers.set(f"timer {number}", timedelta(days=1), payload)

    async def timer(self, name: str, payload: Any) -> None: ...


async def test_numbers_that_json_has_not_do_not_hide_an_object(runtime: durable.Runtime) -> None:
    """Of payloads: they are shown as text."""
    clock = runtime.namespace(Clocks).get_by_name("a")
    await clock.set(float("inf"), float("nan"), 2**60, 10**5_000, [10**5_000], 5, None)
    app = inspector.app(runtime, token=TOKEN)

    answer = await get(app, "/api/object", **{"class": "Clocks", "id": "a"})

    shown = json.loads(answer.body, parse_constant=pytest.fail)["timers"]
    payloads = [timer["payload"] for timer in shown]
    assert payloads[:3] == ["inf", "nan", str(2**60)]
    assert "cannot be shown" in payloads[3]
    assert "cannot be shown" in payloads[4]
    assert payloads[5:] == [5, None]


async def test_a_prefix_that_the_server_has_taken_off_is_not_looked_for(
    app: inspector.Inspector,
) -> None:
    """As behind a proxy that takes it off; a page's name may begin like the prefix."""
    for path in ("/inspector.js", "/inspect/inspector.js"):
        assert (await get(app, path, {"root_path": "/inspect"})).status == 200
    assert (await get(app, "/inspect", {"root_path": "/inspect"})).status == 307


async def test_the_stream_of_events_begins_before_anything_happens(
    app: inspector.Inspector,
) -> None:
    """A page that leaves early is noticed."""
    begun, answer = anyio.Event(), Answer()

    async def send(message: Any) -> None:
        await answer.take(message)
        if answer.body:
            begun.set()

    async def receive() -> Any:
        await begun.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(5):
        await app(scope_of("/api/events", {}), receive, send)
    assert answer.status == 200


async def test_a_query_without_end_is_stopped(
    runtime: durable.Runtime, app: inspector.Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its thread, and what it sees of the store, would be held for ever."""
    pytest.importorskip("apsw")
    await runtime.env.COUNTERS.get_by_name("page 000").table()
    monkeypatch.setattr(views, "QUERY_S_MAX", 0.01)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    asked = {"class": "Counter", "id": "page 000", "query": endless}

    answer = await get(app, "/api/rows", **asked)

    assert answer.status == 422
    assert "interrupted" in answer.json["error"]
