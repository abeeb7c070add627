"""The inspector of a store that is large, and of one that several processes share."""

from __future__ import annotations

import cProfile
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from benchmarks.stores import build
from durable import inspector, operate
from durable.inspector import processes, views
from durable.operate import looking

from .browser import browsing
from .inspected import ROOT, TOKEN, Counter, get, go, inspecting, post, stream

OBJECTS = 100_000
WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of very many objects."""
    return build(tmp_path_factory.mktemp("many") / "store", Counter, OBJECTS)


def calls_for_a_page(store: Path, after: str | None) -> int:
    """How many functions are called to read a page of objects: it is the same each time."""
    with operate.look(store) as looked, cProfile.Profile() as profile:
        found = views.objects(looked, "Counter", "", after)
    assert (len(found["objects"]), found["looked_at"]) == (views.OBJECTS_PER_PAGE,) * 2
    return sum(each.callcount for each in profile.getstats())


def test_a_page_costs_the_same_wherever_it_is(store: Path, tmp_path: Path) -> None:
    """At the start of a class or near its end, and of how many objects ever."""
    small = build(tmp_path / "small", Counter, views.OBJECTS_PER_PAGE * 2)
    first = calls_for_a_page(small, None)

    for after in (None, "80" * 16, "fe" * 16):
        assert calls_for_a_page(store, after) == pytest.approx(first, rel=0.02)


def test_a_search_goes_on_in_bounded_steps(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request returns when its time is up, with what it has found and where to go on; an id is
    found by the first one."""
    monkeypatch.setattr(views, "SEARCH_S_MAX", 0.0)
    with operate.look(store) as looked:
        found = views.objects(looked, "Counter", "object 4711", None)
        assert found["looked_at"] == looking.OBJECTS_PER_STEP
        steps, names = 1, [each["name"] for each in found["objects"]]
        while found["next"] is not None:
            found = views.objects(looked, "Counter", "object 4711", found["next"])
            names += [each["name"] for each in found["objects"]]
            steps += 1
        assert steps == pytest.approx(OBJECTS / looking.OBJECTS_PER_STEP, abs=1)
        assert sorted(names) == ["object 4711", *(f"object 4711{digit}" for digit in range(10))]

        monkeypatch.setattr(views, "SEARCH_S_MAX", WAIT_S_MAX)
        some_id = str(looked.find("Counter", "object 4711").id)
        found = views.objects(looked, "Counter", some_id[:16], None)
        assert [each["name"] for each in found["by_id"]] == ["object 4711"]
        assert found["looked_at"] == looking.OBJECTS_PER_STEP, "names are not searched first"


def test_a_class_of_very_many_objects_in_a_browser(store: Path, tmp_path: Path) -> None:
    """Sorted and searched by name or id; only what is shown is in the page."""
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    with operate.look(store) as looked:
        some_id = str(looked.find("Counter", "object 4711").id)
    rows = "document.querySelectorAll('tbody tr').length"
    first = "document.querySelector('tbody a')?.textContent"
    with inspecting(store, program=None) as address, browsing(tmp_path / "profile") as browser:
        page = browser.open(address)
        page.wait("document.querySelector('td.number')?.textContent === '100,000'")
        go(page, "#/class/Counter", f"{rows} === 100")
        page.evaluate("document.querySelector('th button').click()")
        page.wait(f"{first} === 'object 0'")
        page.evaluate("document.querySelector('th button').click()")
        page.wait(f"{first} === 'object 99999'")
        page.evaluate("[...document.querySelectorAll('button')].at(-1).click()")
        page.wait(f"{rows} === 200")
        page.evaluate("document.querySelector('input').focus()")
        page.type_line("object 9999")
        page.wait(f"{rows} === 11")
        page.evaluate("document.querySelector('input').value = ''")
        page.type_line(some_id)
        page.wait(f"{rows} === 1 && {first} === 'object 4711'")


PROGRAM = """
import sys
import anyio, durable
sys.path.insert(0, sys.argv[2])
from tests.doors.inspected import Counter

async def main():
    bindings = {"C": Counter}
    async with durable.open(sys.argv[1], bindings=bindings, operate=True, shared=True) as runtime:
        print("ready", flush=True)
        while True:
            for number in range(20):
                await runtime.env.C.get_by_name(str(number)).keep("value", number)
            await anyio.sleep(0.05)

anyio.run(main)
"""


@contextmanager
def two_processes(store: Path) -> Iterator[set[int]]:
    """Their pids."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(store), str(ROOT)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(2):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
            started.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield {process.pid for process in started}
    finally:
        for process in started:
            process.kill()
            process.communicate()


async def test_processes_that_share_a_store_are_one(tmp_path: Path) -> None:
    """Each has its shards; what happens in both is told, and an object is found in either."""
    store = tmp_path / "store"
    with two_processes(store) as pids, anyio.fail_after(WAIT_S_MAX):
        app = inspector.app(store, token=TOKEN, write=True)
        found: Any = {}
        while {process["pid"] for process in found.get("processes", ())} != pids or set(
            found["shards"]
        ) != {0, 1}:
            found = (await get(app, "/api/processes")).json
            await anyio.sleep(0.05)
        assert found["is_shared"]
        assert sum(process["shards"] for process in found["processes"]) == len(found["shards"])

        async with stream(app, "/api/reports") as reports, stream(app, "/api/events") as events:
            report = await reports.receive()
            while {each["pid"] for each in report["processes"] if each["calls"]} != pids:
                report = await reports.receive()
            said: set[int] = set()
            while said != pids:
                sample = await events.receive()
                if sample["event"] == "Sample":
                    said.add(sample["pid"])

        for number in range(20):
            which = {"class": "Counter", "id": str(number)}
            now = await get(app, "/api/memory", **which)
            assert now.json["is_live"], now.json
            put = {"do": "put", **which, "key": "from outside", "value": "1"}
            assert (await post(app, put)).json == {}


async def test_a_store_that_is_not_shared_has_one_process(tmp_path: Path) -> None:
    """Or none that can be watched."""
    store = tmp_path / "store"

    async with durable.open(store, bindings={"C": Counter}, operate=True) as runtime:
        found = (await get(inspector.app(runtime, token=TOKEN), "/api/processes")).json
        assert found == await anyio.to_thread.run_sync(processes.of_store, str(store)) | {
            "processes": found["processes"]
        }
        assert [process["pid"] for process in found["processes"]] == [os.getpid()]
        assert not found["is_shared"]
    found = (await get(inspector.app(store, token=TOKEN), "/api/processes")).json
    assert found == {"is_shared": False, "processes": [], "shards": []}
