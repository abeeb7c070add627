"""The inspector looks into a store in a database, while a process has it and while none has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import durable
from durable import inspector
from durable.inspector import sources
from durable.operate import watching
from tests import postgres

from .browser import Page, browsing
from .inspected import HOSTILE, TOKEN, Counter, get, go, inspecting, post, stream

A = {"class": "Counter", "id": "a"}


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.store_url() as url:
        yield url


@pytest.fixture
async def runtime(url: str) -> AsyncIterator[durable.Runtime]:
    """The one process of the store."""
    async with durable.open(url, bindings={"C": Counter}) as runtime:
        await runtime.env.C.get_by_name("a").keep("value", 1)
        await runtime.env.C.get_by_name(HOSTILE).remind(3)
        yield runtime


async def values(app: inspector.Inspector) -> dict[str, object]:
    found = (await get(app, "/api/object", **A)).json
    return {item["key"]: item["value"] for item in found["items"]}


async def test_what_is_stored_is_seen_beside_its_process(
    runtime: durable.Runtime, url: str
) -> None:
    """As soon as it is confirmed; no object is made or woken."""
    app = inspector.app(url, token=TOKEN)
    made = Counter.made

    overview = (await get(app, "/api/overview")).json
    assert overview["classes"] == [{"label": "Counter", "objects": 2, "is_all": True}]
    found = (await get(app, "/api/objects", **{"class": "Counter", "order": "name"})).json
    assert [each["name"] for each in found["objects"]] == [HOSTILE, "a"]
    alarms = (await get(app, "/api/alarms")).json["alarms"]
    assert [each["name"] for each in alarms] == [HOSTILE]
    assert await values(app) == {"value": 1}
    await runtime.env.C.get_by_name("a").keep("value", 2)
    assert await values(app) == {"value": 2}
    assert Counter.made == made


async def test_a_change_does_not_take_the_store_from_its_process(
    runtime: durable.Runtime, url: str
) -> None:
    """It is refused, and says how it would be made; the process goes on."""
    app = inspector.app(url, token=TOKEN, write=True)

    refused = await post(app, {"do": "put", **A, "key": "value", "value": "5"})

    assert refused.status == 422
    assert refused.json["kind"] == "StoreInUse"
    await runtime.env.C.get_by_name("a").keep("other", 3)
    assert await values(app) == {"value": 1, "other": 3}


async def test_processes_of_two_machines_may_have_one_pid(url: str) -> None:
    """As those in containers have; each has its own shards."""
    name = url.rpartition("/")[2]
    [(first,), (second,)] = postgres.server().execute(
        "insert into durable.processes (name, pid, address, version, state, is_alone, expires) "
        "select 'at ' || host, 1, host || ':7070', '1', 'ready', false, "
        "clock_timestamp() + interval '1 min' from unnest(array['a', 'b']) as host returning id",
        name,
    )
    postgres.server().execute(
        f"update durable.shards set owner = case when shard < 10 then {first} "
        f"when shard < 30 then {second} end",
        name,
    )

    found = (await get(inspector.app(url, token=TOKEN), "/api/processes")).json

    shards = {process["address"]: process["shards"] for process in found["processes"]}
    assert shards == {"a:7070": 10, "b:7070": 20}
    assert [place is None for place in found["shards"][29:31]] == [False, True]
    assert len(set(found["shards"][:10])) == len(set(found["shards"][10:30])) == 1


@pytest.mark.backends("asyncio", "trio")
async def test_several_processes_of_a_database_are_seen_from_within_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It connects with the password, which the page does not show."""
    asked: list[str] = []

    def is_watched(store: str, process: str) -> bool:
        asked.append(store)
        return watching.is_watched(store, process)

    monkeypatch.setattr(sources, "is_watched", is_watched)
    with_password = url.replace("tests@", "tests:secret@")
    peers = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
    async with durable.open(with_password, peers=peers, bindings={"C": Counter}) as runtime:
        app = inspector.app(runtime, token=TOKEN)
        async with stream(app, "/api/reports") as reports:
            report = await reports.receive()
        found = (await get(app, "/api/processes")).json
        about = (await get(app, "/api/about")).json

    assert report["statistics"]["live_objects"] == 0
    assert asked == [with_password]
    assert [process["is_here"] for process in found["processes"]] == [True]
    assert set(found["shards"]) == {0}, "the place of this process in the list"
    assert about["path"] == url.replace("tests@", "tests:***@")


PROGRAM = """
import itertools, sys
import anyio, durable
sys.path.insert(0, sys.argv[2])
from tests.doors.inspected import HOSTILE, Counter

async def main():
    async with durable.open(sys.argv[1], bindings={"C": Counter}, operate=True) as runtime:
        await runtime.env.C.get_by_name(HOSTILE).keep("<b>key", {"nested": [1, {"a": None}]})
        await runtime.env.C.get_by_name("a").remind(3)
        await runtime.env.C.get_by_name("shop").table()
        print("ready", flush=True)
        for number in itertools.count():
            await runtime.env.C.get_by_name("a").keep("value", number)
            await anyio.sleep(0.05)

anyio.run(main)
"""


def test_the_pages_of_a_database_in_a_browser(url: str, tmp_path: Path) -> None:
    """While a process of this machine has the store, with what happens in it; and with none."""
    pytest.importorskip("apsw")
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    with browsing(tmp_path / "profile") as browser:
        with inspecting(url, "--write", program=PROGRAM) as address:
            page = browser.open(address)
            page.wait(f"{STATE}.startsWith('running, process ')")
            look_around(page, processes=1)
            go(page, "#/live", "document.querySelectorAll('tbody tr').length > 5")
            store_a_value(page, "a")
        forget_processes(url)
        with inspecting(url, "--write", program=None) as address:
            page = browser.open(address)
            page.wait(f"{STATE} === 'no program to be watched'")
            look_around(page, processes=0)
            store_a_value(page, "b")


STATE = "document.querySelector('#state').textContent"
ADD = "document.querySelector('[aria-label=changes] button')"
ERROR = "document.querySelector('main .error')?.textContent ?? null"


def forget_processes(url: str) -> None:
    """As if the leases of killed processes had expired."""
    postgres.server().execute(
        "update durable.processes set expires = clock_timestamp()", url.rpartition("/")[2]
    )


def look_around(page: Page, *, processes: int) -> None:
    """Go to each page, and see that it shows what the program has stored."""
    page.wait("document.querySelector('td.bar')?.nextElementSibling.textContent === '3'")
    for place, drawn in {
        "#/class/Counter": "tbody a",
        f"#/object/Counter/{quote(HOSTILE, safe='')}": "details",
        "#/object/Counter/shop": "textarea",
        "#/alarms": "circle",
    }.items():
        go(page, place, f"document.querySelector('main {drawn}') !== null")
        assert page.evaluate(ERROR) is None, place
    go(page, "#/processes", "document.querySelector('h1')?.textContent === 'Processes'")
    page.wait(f"document.querySelectorAll('main tbody tr').length === {processes}")


def store_a_value(page: Page, key: str) -> None:
    """By the page, through the process if there is one."""
    go(page, "#/object/Counter/shop", f"({ADD} ?? null) !== null")
    page.evaluate(f"{ADD}.click()")
    page.wait("document.querySelector('dialog[open]') !== null")
    page.evaluate(f"document.querySelector('dialog input').value = '{key}'")
    page.evaluate("document.querySelector('dialog textarea').value = '[1]'")
    page.evaluate("document.querySelector('dialog button.do').click()")
    page.wait(f"document.querySelector('#result').textContent === 'Stored \"{key}\".'")
    page.wait(f"[...document.querySelectorAll('tbody pre')].some((e) => e.textContent === '{key}')")
