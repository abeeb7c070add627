"""Every change that the inspector offers: only where it was opened to write, by no other site, with
a question first, and with hostile names as plain text all the way."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import durable
from durable import inspector
from durable.inspector import changes

from .browser import Page, browsing
from .inspected import HOSTILE, TOKEN, get, go, inspecting, post


class Everything(durable.DurableObject):
    """All of its kinds of change are offered."""

    history = timedelta(days=30)

    async def fill(self) -> str:
        """A bookmark of the moment before."""
        before: str = await self.ctx.storage.get_current_bookmark()
        self.ctx.storage.put(HOSTILE, HOSTILE)
        self.ctx.timers.set(HOSTILE, timedelta(days=1), HOSTILE)
        return before

    async def timer(self, name: str, payload: Any) -> None:
        self.ctx.storage.put("rang", name)


WHICH = {"class": "Everything", "id": HOSTILE}
# All kinds of change, and what each takes beside its object; a bookmark comes from the object.
GIVEN: dict[str, dict[str, str]] = {
    "put": {"key": HOSTILE, "value": json.dumps(HOSTILE)},
    "delete": {"key": HOSTILE},
    "alarm": {"timer": HOSTILE},
    "restore": {"to": ""},
    "evict": {},
    "abort": {},
}
EVERY_KIND = pytest.mark.parametrize("kind", GIVEN)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[durable.Runtime]:
    async with durable.open(tmp_path / "store", bindings={"E": Everything}) as runtime:
        yield runtime


@pytest.fixture
async def bookmark(runtime: durable.Runtime) -> str:
    """Of the moment before the object had anything."""
    return str(await runtime.env.E.get_by_name(HOSTILE).fill())


def change_of(kind: str, bookmark: str) -> dict[str, str]:
    change = {"do": kind, **WHICH, **GIVEN[kind]}
    return {**change, "to": bookmark} if kind == "restore" else change


def test_these_are_all_kinds_of_change() -> None:
    """A new one is refused to other sites by a test of its own, too."""
    assert set(GIVEN) == changes.KINDS


async def contents(app: inspector.Inspector) -> Any:
    """All that is stored of the object."""
    found = (await get(app, "/api/object", **WHICH)).json
    return found["items"], found["timers"]


@EVERY_KIND
async def test_a_change_of_what_has_a_hostile_name_is_made_and_logged(
    runtime: durable.Runtime, bookmark: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The line in the log has the name as it is."""
    app = inspector.app(runtime, token=TOKEN, write=True)
    with caplog.at_level(logging.INFO, "durable"):
        answer = await post(app, change_of(kind, bookmark))

    assert answer.status == 200, answer.json
    said = f"an operator's order to Everything({HOSTILE!r}): {kind}"
    assert [line for line in caplog.messages if line.startswith(said)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer x"}, 401),
    ],
)
async def test_no_other_site_changes_anything(
    runtime: durable.Runtime, bookmark: str, headers: dict[str, str], status: int
) -> None:
    """Not even one that knows the token: the browser says where a request comes from."""
    app = inspector.app(runtime, token=TOKEN, write=True)
    before = await contents(app)

    for kind in GIVEN:
        assert (await post(app, change_of(kind, bookmark), **headers)).status == status

    assert await contents(app) == before
    assert runtime.statistics().live_objects == 1, "neither evicted nor reset"


async def test_the_page_itself_changes_something(runtime: durable.Runtime, bookmark: str) -> None:
    """The browser says that the request comes from the same place."""
    app = inspector.app(runtime, token=TOKEN, write=True)
    change = change_of("delete", bookmark)

    assert (await post(app, change, **{"sec-fetch-site": "same-origin"})).status == 200

    items, _ = await contents(app)
    assert items == []


@EVERY_KIND
async def test_a_change_is_made_by_post_and_where_it_is_allowed(
    runtime: durable.Runtime, bookmark: str, kind: str
) -> None:
    """A link or an image is no change; without `write` the server refuses, whatever the page
    shows."""
    looking = inspector.app(runtime, token=TOKEN)
    writing = inspector.app(runtime, token=TOKEN, write=True)
    before = await contents(looking)
    change = change_of(kind, bookmark)

    refused = await post(looking, change)
    by_link = await get(writing, "/api/change", **change)

    assert (refused.status, by_link.status) == (403, 405)
    assert "--write" in refused.json["error"]
    assert await contents(looking) == before
    assert runtime.statistics().live_objects == 1, "neither evicted nor reset"
    assert (await get(looking, "/api/about")).json["may_write"] is False


# In a browser

PROGRAM = """
import sys
import anyio, durable
sys.path.insert(0, sys.argv[2])
from tests.doors.inspected import HOSTILE
from tests.doors.test_inspector_questions import Everything

async def main():
    async with durable.open(sys.argv[1], bindings={"E": Everything}, operate=True) as runtime:
        await runtime.env.E.get_by_name(HOSTILE).fill()
        print("ready", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""

DIALOG = "document.querySelector('dialog[open]')"
# The buttons that ask, and the one of the question that does it. The last three undo the others.
QUESTIONS = {
    "Add a key": "Store it",
    "change": "Store it",
    "run now": "Run it now",
    "delete": "Delete it",
    "Reset (abort)": "Reset it",
    "Evict from memory": "Evict it",
    "go back": "Go back",
    "Delete the object": "Delete all of it",
}


REQUESTS = """
performance.getEntriesByType("resource").filter((each) => each.name.endsWith("api/change")).length
"""


def button(text: str, within: str = "document") -> str:
    return f"[...{within}.querySelectorAll('button')].find((b) => b.textContent === {text!r})"


def is_unharmed(page: Page) -> bool:
    """Whether no markup was made of names or values, and none of their code has run."""
    made = page.evaluate("document.querySelectorAll('img, dialog script, main script').length")
    return made == 0 and page.evaluate("document.title") == "durable inspector"


def test_every_change_asks_first_and_shows_names_as_text(tmp_path: Path) -> None:
    """The question, its error and what came of it; nothing is done before it is confirmed."""
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    with (
        inspecting(tmp_path / "store", "--write", program=PROGRAM) as address,
        browsing(tmp_path / "profile") as browser,
    ):
        page = browser.open(address)
        page.wait("document.querySelector('main table') !== null")
        drawn = "document.querySelector('.history button') !== null"
        go(page, f"#/object/Everything/{quote(HOSTILE, safe='')}", drawn)
        offered = set(
            page.evaluate("[...document.querySelectorAll('main button')].map((b) => b.textContent)")
        )
        assert offered == {*QUESTIONS, "What changed?", "more"}

        for asks, does in QUESTIONS.items():
            page.evaluate(f"{button(asks)}.click()")
            page.wait(f"{DIALOG} !== null")
            assert HOSTILE in page.evaluate(f"{DIALOG}.querySelector('h2').textContent"), asks
            assert page.evaluate(button(does, DIALOG) + "?.textContent") == does
            assert is_unharmed(page), asks
            page.evaluate(f"{button('Cancel', DIALOG)}.click()")
            page.wait(f"{DIALOG} === null")
        assert page.evaluate(REQUESTS) == 0

        # What comes of it is said as text, too.
        page.evaluate(f"{button('run now')}.click()")
        page.evaluate(f"{button('Run it now', DIALOG)}.click()")
        page.wait("document.querySelector('#result').textContent.includes('<img')")
        assert page.evaluate(REQUESTS) == 1
        assert is_unharmed(page)
