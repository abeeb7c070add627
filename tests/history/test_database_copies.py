"""A copy into a database, and back, carries the histories of objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

import durable
import durable.testing
from durable import operate
from durable._postgres.copying import Growing
from durable.operate import copying_objects
from tests import postgres

from .conftest import Ledger

pytestmark = pytest.mark.backends("asyncio", "trio")

DUE = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


async def write(path: str | Path, name: str = "a") -> list[str]:
    """An object with a past, over a deletion of everything; returns its bookmarks."""
    async with durable.testing.open(path) as runtime:
        stub = runtime.namespace(Ledger).get_by_name(name)
        await stub.put("a", 1)
        await stub.sql("create table notes (text)")
        await stub.sql("insert into notes values ('first')")
        await stub.set_alarm(DUE)
        early = await stub.now()
        await stub.delete_all()
        await stub.put("b", 2)
        late = await stub.now()
        await stub.put("b", 3)
        return [early, late]


async def check(path: str | Path, bookmarks: list[str], name: str = "a") -> None:
    """It is as it was, and goes back to both of them, and forth again."""
    early, late = bookmarks
    async with durable.testing.open(path) as runtime:
        stub: Any = runtime.namespace(Ledger).get_by_name(name)
        assert await stub.all() == {"b": 3}
        undo = await stub.wish(early)
        await durable.testing.evict(stub)
        assert await stub.all() == {"a": 1}
        assert await stub.sql("select text from notes") == [{"text": "first"}]
        assert await stub.due() == DUE
        await stub.wish(late)
        await durable.testing.evict(stub)
        assert await stub.all() == {"b": 2}
        await stub.wish(undo)
        await durable.testing.evict(stub)
        assert await stub.all() == {"b": 3}


def problems(url: str) -> list[operate.Problem]:
    """Those of the rows; the tests' server is set to be quick."""
    return [problem for problem in operate.check(url) if "setting" not in problem.where]


async def test_histories_go_to_a_database_and_back(tmp_path: Path, url: str) -> None:
    """Bookmarks stay what they are, in each of the three."""
    bookmarks = await write(tmp_path / "from")
    await to_thread.run_sync(operate.copy, tmp_path / "from", url)
    assert problems(url) == []
    await to_thread.run_sync(operate.copy, url, tmp_path / "back")

    assert operate.check(tmp_path / "back") == []
    await check(url, bookmarks)
    await check(tmp_path / "back", bookmarks)
    await check(tmp_path / "from", bookmarks)


async def test_a_copy_that_goes_on_keeps_each_history_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored behind the last place that was noted goes with its history."""
    bookmarks = [await write(tmp_path / "from", name) for name in "ab"]
    monkeypatch.setattr(copying_objects, "GROUP_COUNT_MAX", 1)
    note = Growing.reached

    def lose(self: Any, place: Any) -> None:
        note(self, place)
        monkeypatch.setattr(Growing, "reached", stop)

    def stop(self: Any, place: Any) -> None:
        raise KeyboardInterrupt  # it is stored, and not noted

    monkeypatch.setattr(Growing, "reached", lose)
    with pytest.raises(KeyboardInterrupt):
        operate.copy(tmp_path / "from", url)
    monkeypatch.setattr(Growing, "reached", note)
    operate.copy(tmp_path / "from", url)

    assert problems(url) == []
    for name, marks in zip("ab", bookmarks, strict=True):
        await check(url, marks, name)
