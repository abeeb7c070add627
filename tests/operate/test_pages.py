"""Pages of the objects of a class: bounded in time and memory, however many there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.stores import build
from durable import DurableObject, operate
from durable.operate import pages
from durable.operate.found import has_prefix
from durable.operate.looking import OBJECTS_PER_STEP
from durable.operate.pages import Order, Shown

OBJECTS = 100_000


class Box(DurableObject):
    """Is only looked at."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of very many objects; some have more, some an alarm."""
    return build(tmp_path_factory.mktemp("many") / "store", Box, OBJECTS)


@pytest.fixture
def store(many: Path) -> Iterator[operate.Store]:
    with operate.look(many) as looked:
        yield looked


def in_order(
    store: operate.Store, order: Order, *, descending: bool = False, **given: Any
) -> list[Shown]:
    """The page that several short looks make together, as the page in the browser does it."""
    found: list[Shown] = []
    after: bytes | None = None
    options = {"prefix": "", "beyond": None, "count": 100, "seconds": 0.05, **given}
    while True:
        page = pages.in_order(store, "Box", order, descending=descending, after=after, **options)
        assert len(page.shown) <= 100
        found += page.shown
        after = page.after
        if after is None:
            found.sort(key=lambda each: each.place or (0, 0, ""), reverse=descending)
            return found[:100]


def names(found: list[Shown]) -> list[str | None]:
    return [each.found.name for each in found]


def test_pages_in_the_order_of_ids_have_each_object_once(store: operate.Store) -> None:
    """A page is as long as was asked for, and takes only what it shows."""
    seen: set[str] = set()
    after: bytes | None = None
    for _ in range(5):
        page = pages.in_id_order(store, "Box", prefix="", after=after, count=100, seconds=1.0)
        assert (len(page.shown), page.looked_at) == (100, 100)
        seen |= {str(each.found.id) for each in page.shown}
        after = page.after
    assert len(seen) == 500


def test_a_name_is_found_among_all(store: operate.Store) -> None:
    """By its beginning; where time is up, it is said from where to go on."""
    found: list[Shown] = []
    after: bytes | None = None
    looks = 0
    while True:
        page = pages.in_id_order(
            store, "Box", prefix="object 7777", after=after, count=100, seconds=0.02
        )
        found += page.shown
        looks += 1
        after = page.after
        if after is None:
            break
    assert sorted(filter(None, names(found))) == sorted(
        ["object 7777", *(f"object 7777{digit}" for digit in range(10))]
    )
    assert looks > 1


def test_a_search_holds_no_reader_while_it_compares(
    store: operate.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step reads its objects in a transaction of its own, and looks at their names after that: a
    long search keeps the owner from using its old pages again for a step at most."""
    readers: set[str] = set()

    def compare(fields: Any, prefix: str) -> bool:
        readers.add(str(store._engine.handle.env.readers()))  # type: ignore[attr-defined]
        return has_prefix(fields, prefix)

    monkeypatch.setattr(pages, "has_prefix", compare)
    page = pages.in_id_order(store, "Box", prefix="object 7", after=None, count=100, seconds=0.0)

    assert page.looked_at == OBJECTS_PER_STEP
    assert readers == {"(no active readers)\n"}


def test_an_id_is_found_by_its_beginning(store: operate.Store) -> None:
    """At once, since ids are what objects are kept by."""
    found = store.find("Box", "object 5")
    for length in (12, 13, 32, 33, 64):
        shown = pages.with_id(store, "Box", str(found.id)[:length].upper())
        assert [each.found.id for each in shown] == [found.id]
    wrong = str(found.id)[:-1] + ("0" if str(found.id)[-1] != "0" else "1")
    assert not pages.with_id(store, "Box", wrong)
    assert not pages.with_id(store, "Box", "object")
    assert not pages.with_id(store, "Box", "abc"), "too short to be meant as one"
    assert pages.with_id(store, "Box", "0000") is not None


def test_the_first_by_name_are_the_first_of_all(store: operate.Store) -> None:
    """And the page after them goes on where they end, up and down."""
    everything = sorted(f"object {number}" for number in range(OBJECTS))
    first = in_order(store, Order.NAME)
    second = in_order(store, Order.NAME, beyond=first[-1].place)
    assert names(first) + names(second) == everything[:200]

    last = in_order(store, Order.NAME, descending=True)
    before = in_order(store, Order.NAME, descending=True, beyond=last[-1].place)
    assert names(last) + names(before) == everything[::-1][:200]


@pytest.mark.parametrize("order", list(Order))
def test_what_is_equal_has_the_order_of_ids(store: operate.Store, order: Order) -> None:
    """So that no object is left out between two pages, or comes twice."""
    seen: list[str] = []
    beyond = None
    for _ in range(2):
        page = in_order(store, order, beyond=beyond)
        seen += [str(each.found.id) for each in page]
        beyond = page[-1].place
    assert len(set(seen)) == 200


def test_a_page_takes_little_memory(store: operate.Store) -> None:
    """A part of what all objects would take."""
    in_order(store, Order.KEYS)
    tracemalloc.start()
    try:
        in_order(store, Order.NAME, seconds=60.0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20
