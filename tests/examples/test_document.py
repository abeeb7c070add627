"""The collaborative document of the documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable
from durable import Request, WebSocket
from durable.testing import evict_all
from durable.testing import open as open_for_test

from .conftest import load

example = load("document")


@pytest.fixture
def options() -> dict[str, Any]:
    return {"bindings": {"DOCUMENTS": example.Document}}


class Writer:
    """One who has the document open."""

    def __init__(self, ws: WebSocket) -> None:
        self.ws = ws
        self.version = 0
        self.text = ""

    @classmethod
    async def come(cls, runtime: durable.Runtime) -> Writer:
        request = Request("https://notes/documents/d", headers={"upgrade": "websocket"})
        ws = (await example.fetch(request, runtime.env)).websocket
        assert isinstance(ws, WebSocket)
        ws.accept()
        writer = cls(ws)
        await writer.hear()
        return writer

    async def hear(self) -> None:
        said = json.loads(await anext(self.ws))
        self.version = said["version"]
        self.text = said["text"] if "text" in said else applied(self.text, said)

    def write(self, at: int, remove: int = 0, insert: str = "", base: int | None = None) -> None:
        base = self.version if base is None else base
        self.ws.send(json.dumps({"base": base, "at": at, "remove": remove, "insert": insert}))


def applied(text: str, change: dict[str, Any]) -> str:
    at, remove = change["at"], change["remove"]
    inserted: str = change["insert"]
    return text[:at] + inserted + text[at + remove :]


async def test_all_see_the_same_text(runtime: durable.Runtime) -> None:
    """Also when two write at once, neither of whom has heard of the other's change."""
    ann, bob = await Writer.come(runtime), await Writer.come(runtime)
    ann.write(0, insert="Hello world")
    await ann.hear()
    await bob.hear()
    ann.write(0, 5, "Goodbye")
    bob.write(11, insert="!")
    for _ in range(2):
        await ann.hear()
        await bob.hear()

    assert ann.text == bob.text == "Goodbye world!"
    assert (await Writer.come(runtime)).text == "Goodbye world!"


async def test_the_text_outlives_the_program(tmp_path: Path, options: dict[str, Any]) -> None:
    """With its version."""
    for is_first in (True, False):
        async with open_for_test(tmp_path, **options) as runtime:
            writer = await Writer.come(runtime)
            if is_first:
                writer.write(0, insert="kept")
                await writer.hear()
            else:
                assert (writer.text, writer.version) == ("kept", 1)


async def test_a_document_that_has_left_memory_takes_changes(runtime: durable.Runtime) -> None:
    """Its writers stay connected."""
    writer = await Writer.come(runtime)
    await evict_all(runtime)
    writer.write(0, insert="awake")
    await writer.hear()

    assert writer.text == "awake"


async def test_what_cannot_be_placed_is_answered_by_the_whole_text(
    runtime: durable.Runtime,
) -> None:
    """A change behind the end, of a version that is yet to come, or no change at all."""
    writer = await Writer.come(runtime)
    writer.write(0, insert="abc")
    await writer.hear()
    for nonsense in (lambda: writer.write(9), lambda: writer.write(0, base=7)):
        nonsense()
        await writer.hear()
        assert (writer.text, writer.version) == ("abc", 1)
    writer.ws.send("[]")
    await writer.hear()

    assert writer.text == "abc"


CHANGES = st.tuples(st.integers(0, 8), st.integers(0, 4), st.text("xyz", max_size=3))


@given(CHANGES, CHANGES)
def test_a_change_that_is_moved_touches_what_it_touched(
    mine: tuple[int, int, str], other: tuple[int, int, str]
) -> None:
    """All that both left alone is there, in its order, and what I inserted is there once."""
    text = "abcdefghijkl"
    change, before = (
        {"at": at, "remove": remove, "insert": insert} for at, remove, insert in (mine, other)
    )
    after = applied(applied(text, before), example.moved_past(change, before))

    removed = {*range(mine[0], mine[0] + mine[1]), *range(other[0], other[0] + other[1])}
    left = "".join(letter for place, letter in enumerate(text) if place not in removed)
    assert "".join(letter for letter in after if letter in text) == left
    assert mine[2] in after
