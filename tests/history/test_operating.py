"""`durable history`, `durable restore` and their functions, with a program that has the store and
without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

import durable
import durable.testing
from durable import operate
from durable.cli import main
from durable.operate.changing import obey
from durable.operate.restoring import fork_order, restore_order

from .conftest import Ledger, Store

T = TypeVar("T")
LOCAL = pytest.mark.local("an order goes to the process that has the object")
DUE = datetime(2100, 1, 1, tzinfo=UTC)


async def filled(store: Store) -> list[str]:
    """An object "a" with three states; the bookmarks of these."""
    marks = []
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put("a", 1)
        await stub.set_alarm(DUE)
        marks.append(await stub.now())
        await stub.put("a", 2)
        await stub.put("b", 2)
        marks.append(await stub.now())
        await stub.delete_all()
        await stub.put("c", 3)
        marks.append(await stub.now())
    return marks


async def state(store: Store, name: str = "a") -> tuple[dict[str, Any], datetime | None]:
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name(name)
        return await stub.all(), await stub.due()


def in_thread(fn: Callable[..., T], *args: Any, **options: Any) -> Any:
    return anyio.to_thread.run_sync(partial(fn, *args, **options))


async def test_an_object_goes_back_where_no_program_has_the_store(store: Store) -> None:
    """In one commit, and what comes back of it undoes it; over a deletion of everything, too."""
    first, second, third = await filled(store)
    undo = await in_thread(operate.restore, store.folder, "Ledger", "a", first)
    assert await state(store) == ({"a": 1}, DUE)
    await in_thread(operate.restore, store.folder, "Ledger", "a", second)
    assert await state(store) == ({"a": 2, "b": 2}, DUE)
    await in_thread(operate.restore, store.folder, "Ledger", "a", third)
    assert await state(store) == ({"c": 3}, None)
    await in_thread(operate.restore, store.folder, "Ledger", "a", first)

    await in_thread(operate.restore, store.folder, "Ledger", "a", undo)

    assert await state(store) == ({"c": 3}, None)


@LOCAL
async def test_an_object_goes_back_in_the_program_that_has_it(store: Store) -> None:
    """It is reset and built anew; calls under way get the reason."""
    first, second, _ = await filled(store)
    async with store.open(bindings={"LEDGERS": Ledger}) as runtime:
        stub = runtime.env.LEDGERS.get_by_name("a")
        assert await stub.all() == {"c": 3}
        undo = await obey(runtime, restore_order("Ledger", "a", first))
        with pytest.raises(durable.ObjectAborted, match="operator"):
            await stub.all()
        stub = runtime.env.LEDGERS.get_by_name("a")
        assert await stub.found_first() == {"a": 1}
        await obey(runtime, restore_order("Ledger", "a", second))
        assert await runtime.env.LEDGERS.get_by_name("a").all() == {"a": 2, "b": 2}
        await obey(runtime, restore_order("Ledger", "a", undo))
        assert await runtime.env.LEDGERS.get_by_name("a").all() == {"c": 3}
        with pytest.raises(operate.Refused, match="too old"):
            await obey(runtime, restore_order("Ledger", "a", "0" * 16))


@LOCAL
async def test_the_program_is_told_through_its_control_socket(tmp_path: Path) -> None:
    async with durable.open(
        tmp_path / "store", bindings={"LEDGERS": Ledger}, operate=True
    ) as runtime:
        stub = runtime.env.LEDGERS.get_by_name("a")
        await stub.put("a", 1)
        mark = await stub.now()
        await stub.put("a", 2)
        order = restore_order("Ledger", "a", mark)
        reply = await in_thread(operate.changing.send_order, tmp_path / "store", order)
        assert operate.changing.result_of(reply) > mark
        assert await runtime.env.LEDGERS.get_by_name("a").all() == {"a": 1}


@LOCAL
async def test_a_fork_is_a_new_object(store: Store) -> None:
    """That is what the other one was, and shares nothing with it, whoever makes it."""
    first, second, _ = await filled(store)
    await in_thread(operate.fork, store.folder, "Ledger", "a", second, "b")
    async with store.open(bindings={"LEDGERS": Ledger}) as runtime:
        await obey(runtime, fork_order("Ledger", "a", first, "c"))
        objects = runtime.env.LEDGERS
        assert await objects.get_by_name("a").all() == {"c": 3}
        assert await objects.get_by_name("b").all() == {"a": 2, "b": 2}
        assert await objects.get_by_name("c").found_first() == {"a": 1}
        assert await objects.get_by_name("c").due() == DUE
        await objects.get_by_name("c").put("a", 9)
        assert await objects.get_by_name("a").all() == {"c": 3}
        for name in ("a", "b", "c"):
            with pytest.raises(operate.Refused, match="already"):
                await obey(runtime, fork_order("Ledger", "a", first, name))
    with pytest.raises(durable.DurableError, match="already"):
        await in_thread(operate.fork, store.folder, "Ledger", "a", first, "c")


async def test_a_fork_begins_in_the_process_that_has_it(tmp_path: Path) -> None:
    """With keys, alarm and database, wherever the other one is; and is refused if it exists."""
    folder = tmp_path / "store"
    opened = partial(durable.open, folder, shared=True, operate=True, bindings={"LEDGERS": Ledger})
    async with opened() as one, opened():
        stub = one.env.LEDGERS.get_by_name("a")
        await stub.put("a", 1)
        await stub.set_alarm(DUE)
        await stub.sql("CREATE TABLE t (a)")
        mark = await stub.now()
        await stub.put("a", 2)
        for name in "bcdefghi":
            await in_thread(operate.fork, folder, "Ledger", "a", mark, name)
            fork = one.env.LEDGERS.get_by_name(name)
            assert await fork.found_first() == {"a": 1}
            assert await fork.due() == DUE
            assert await fork.sql("SELECT * FROM t") == []
            with pytest.raises(durable.DurableError, match="already"):
                await in_thread(operate.fork, folder, "Ledger", "a", mark, name)
        assert await stub.all() == {"a": 2}
        assert all(process.live_objects > 1 for process in await one.peers())


@LOCAL
async def test_a_fork_made_by_a_program_can_go_back_itself(store: Store) -> None:
    first, _, _ = await filled(store)
    async with store.open(bindings={"LEDGERS": Ledger}) as runtime:
        await obey(runtime, fork_order("Ledger", "a", first, "c"))
        fork = runtime.env.LEDGERS.get_by_name("c")
        mark = await fork.now()
        await fork.put("a", 9)
        await obey(runtime, restore_order("Ledger", "c", mark))
        assert await runtime.env.LEDGERS.get_by_name("c").all() == {"a": 1}


async def test_what_the_command_line_changes_can_be_undone(store: Store) -> None:
    """Also where no program has the store: a key that it stores, one that it deletes, all of an
    object."""
    await filled(store)
    found = await in_thread(operate.history, store.folder, "Ledger", "a")
    await in_thread(operate.put, store.folder, "Ledger", "a", "d", 4)
    await in_thread(operate.delete, store.folder, "Ledger", "a", "c")
    assert await state(store) == ({"d": 4}, None)
    await in_thread(operate.delete, store.folder, "Ledger", "a")
    after = await in_thread(operate.history, store.folder, "Ledger", "a")
    assert after.oldest == found.oldest
    mark = after.chapters[0].bookmark
    assert after.chapters[0].cleared
    await in_thread(operate.restore, store.folder, "Ledger", "a", mark)
    assert await state(store) == ({"d": 4}, None)


async def test_a_history_lists_its_chapters(store: Store) -> None:
    """The latest first, each with what it has changed."""
    await filled(store)
    found = await in_thread(operate.history, store.folder, "Ledger", "a")

    assert [(each.keys, each.alarm, each.cleared) for each in found.chapters] == [
        (1, True, True),
        (2, False, False),
        (1, True, False),
    ]
    marks = [each.bookmark for each in found.chapters]
    assert marks == sorted(marks, reverse=True)
    assert found.oldest <= marks[-1]
    assert found.records >= 6
    assert found.size > 100
    assert found.begins <= found.chapters[-1].began


async def test_what_has_changed_between_two_bookmarks_is_told(store: Store) -> None:
    """Over a deletion of everything as well; up to now if there is one bookmark."""
    first, second, third = await filled(store)

    async def changes(*marks: str) -> list[tuple[str, str, Any, Any]]:
        found = await in_thread(operate.changes_between, store.folder, "Ledger", "a", *marks)
        return [(each.kind, each.name, each.before, each.after) for each in found]

    nothing = operate.MISSING
    assert await changes(first, second) == [("key", "a", 1, 2), ("key", "b", nothing, 2)]
    assert await changes(second, third) == [
        ("key", "a", 2, nothing),
        ("key", "b", 2, nothing),
        ("key", "c", nothing, 3),
        ("alarm", "", DUE, nothing),
    ]
    assert await changes(second) == await changes(second, third)
    assert await changes(third) == []
    with pytest.raises(durable.UnknownBookmark):
        await changes("0" * 16)


def run(*arguments: str) -> Any:
    return in_thread(main, list(arguments))


async def test_the_commands_list_and_restore(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, _ = await filled(store)
    folder = str(store.folder)
    assert await run("history", folder, "Ledger", "a") == 0
    assert first in capsys.readouterr().out
    assert await run("history", folder, "Ledger", "a", "--json", "--limit", "2") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [*lines[0]] == ["history"]
    assert [each["cleared"] for each in lines[1:]] == [True, False]
    assert await run("show", folder, "Ledger", "a") == 0
    assert "history" in capsys.readouterr().out
    assert await run("show", folder, "Ledger", "a", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])["object"]["history"]
    assert told["oldest"] <= first
    assert told["bytes"] > 100
    assert await run("history", folder, "Ledger", "a", "--since", first) == 0
    assert "key c: nothing -> [3]" in capsys.readouterr().out
    assert await run("history", folder, "Ledger", "a", "--since", first, "--json") == 0
    capsys.readouterr()

    assert await run("restore", folder, "Ledger", "a", first, "--as", "b", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"made": "b"}
    assert await run("restore", folder, "Ledger", "a", first, "--json") == 0
    assert json.loads(capsys.readouterr().out)["undo"] > first
    assert await state(store) == await state(store, "b") == ({"a": 1}, DUE)
    assert await run("restore", folder, "Ledger", "a", first) == 0
    assert "undoes this" in capsys.readouterr().out


async def test_the_commands_take_a_time(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put("a", 1)
        await store.clock.advance(600)
        time = datetime.fromtimestamp(store.clock.now(), UTC)
        await store.clock.advance(600)
        await stub.put("a", 2)
    assert await run("restore", str(store.folder), "Ledger", "a", time.isoformat()) == 0
    capsys.readouterr()
    assert await state(store) == ({"a": 1}, None)


async def test_the_commands_say_what_is_wrong(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, _ = await filled(store)
    folder = str(store.folder)
    for arguments, why in (
        (("history", folder, "Ledger", "nobody"), "no object 'nobody'"),
        (("restore", folder, "Ledger", "nobody", first), "no object 'nobody'"),
        (("restore", folder, "Ledger", "a", "0" * 16), "too old"),
        (("restore", folder, "Ledger", "a", "1999-01-01"), "too old"),
        (("restore", folder, "Ledger", "a", "never"), "no bookmark"),
    ):
        assert await run(*arguments) == 1
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        await run("restore", folder, "Ledger", "a", "next-week")
    assert "neither a bookmark nor a time" in capsys.readouterr().err
    await in_thread(operate.put, folder, "Ledger", "plain", "a", 1)
    with pytest.raises(operate.NoHistory, match=r"'plain'\).*history = timedelta"):
        await in_thread(operate.history, folder, "Ledger", "plain")


async def test_a_time_before_the_history_is_refused(store: Store) -> None:
    await filled(store)
    early = datetime.fromtimestamp(store.clock.now(), UTC) - timedelta(days=1)
    with pytest.raises(durable.UnknownBookmark):
        await in_thread(operate.restore, store.folder, "Ledger", "a", early)


@pytest.mark.parametrize("shards", [[4], [4, 1], [4, 3]])
async def test_a_copy_takes_the_history_along(store: Store, shards: list[int]) -> None:
    """With another number of shards, too, where everything has other keyspaces."""
    marks = await filled(store)
    for mark in (*marks, marks[1]):  # and back and forth
        await in_thread(operate.restore, store.folder, "Ledger", "a", mark)
    marks.append(
        (await in_thread(operate.history, store.folder, "Ledger", "a")).chapters[0].bookmark
    )
    source = store.folder
    for number, count in enumerate(shards):
        target = store.folder.with_name(f"copy {number}")
        await in_thread(operate.copy, source, target, shards=count)
        assert operate.check(target) == []
        source = target

    before = await in_thread(operate.history, store.folder, "Ledger", "a")
    after = await in_thread(operate.history, source, "Ledger", "a")
    assert (after.oldest, after.chapters) == (before.oldest, before.chapters)
    for mark in marks:
        await in_thread(operate.restore, store.folder, "Ledger", "a", mark)
        await in_thread(operate.restore, source, "Ledger", "a", mark)
        with operate.look(store.folder) as one, operate.look(source) as other:
            found, same = one.find("Ledger", "a"), other.find("Ledger", "a")
            assert dict(one.items(found)) == dict(other.items(same))
            assert found.alarm == same.alarm
    assert operate.check(source) == []
