"""A store that stays open over the cells of a notebook: `start` and `close`, and classes that are
defined again."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import durable
import durable.testing


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value


class Slow(durable.DurableObject):
    async def work(self) -> str:
        await self.env.DOOR.wait()
        return "done"


# Start and close


async def test_a_started_store_is_open_until_it_is_closed(tmp_path: Path) -> None:
    runtime = await durable.open(tmp_path, bindings={"COUNTERS": Counter}).start()
    assert await runtime.env.COUNTERS.get_by_name("a").increment() == 1
    await runtime.close()

    with pytest.raises(durable.RuntimeClosed):
        await runtime.namespace(Counter).get_by_name("a").increment()
    async with durable.open(tmp_path) as again:
        assert await again.namespace(Counter).get_by_name("a").increment() == 2


async def test_a_shell_completes_what_is_bound(tmp_path: Path) -> None:
    """It asks `dir` for the names."""
    options = {"bindings": {"COUNTERS": Counter}, "vars": {"DOOR": "open"}}
    async with durable.open(tmp_path, **options) as runtime:
        assert {"COUNTERS", "DOOR", "keys"} <= set(dir(runtime.env))


async def test_what_opens_a_store_closes_it_too(tmp_path: Path) -> None:
    """`open(...)` is kept by frameworks that have a hook for the start and one for the end."""
    opening = durable.open(tmp_path)
    await opening.close()  # nothing is open yet
    runtime = await opening.start()
    await runtime.namespace(Counter).get_by_name("a").increment()
    await opening.close()

    assert "closed" in repr(runtime)


async def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    runtime = await durable.open(tmp_path).start()
    await runtime.close()
    await runtime.close()

    async with durable.open(tmp_path) as within:
        await within.close()


async def test_a_second_close_waits_for_the_first(tmp_path: Path) -> None:
    """Whoever has closed the store may open it again."""
    door = anyio.Event()
    runtime = await durable.open(tmp_path, vars={"DOOR": door}).start()
    work = runtime.namespace(Slow).get_by_name("a").work()
    ended: list[str] = []

    async def close(name: str) -> None:
        await runtime.close()
        ended.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close, "one")
        tasks.start_soon(close, "other")
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        door.set()

    assert sorted(ended) == ["one", "other"]
    assert await work == "done"


async def test_a_store_cannot_be_started_twice(tmp_path: Path) -> None:
    opening = durable.open(tmp_path)
    runtime = await opening.start()

    with pytest.raises(RuntimeError, match="gives one runtime; call it again for another"):
        await opening.start()
    await runtime.close()
    with pytest.raises(RuntimeError, match="gives one runtime"):
        await opening.start()


async def test_a_store_that_cannot_be_started_needs_no_close(tmp_path: Path) -> None:
    async with durable.open(tmp_path):
        opening = durable.open(tmp_path)
        with pytest.raises(durable.StoreInUse):
            await opening.start()
        await opening.close()


async def test_a_configured_store_starts_and_closes_too(tmp_path: Path) -> None:
    (tmp_path / "durable.toml").write_text('name = "shop"\nmain = "app.py"\npath = "state"\n')
    (tmp_path / "app.py").write_text("")
    runtime = await durable.open_config(tmp_path / "durable.toml").start()
    await runtime.close()

    assert (tmp_path / "state" / "data.mdb").exists()


async def test_a_runtime_that_is_dropped_unclosed_is_told_of(tmp_path: Path) -> None:
    """By a ResourceWarning, as for a file. The store is open, since its objects may be in use."""
    opening = durable.open(tmp_path)
    kept = [await opening.start()]
    counters = kept[0].namespace(Counter)

    with pytest.warns(ResourceWarning, match=r"dropped without being closed.*runtime\.close"):
        kept.clear()
    assert await counters.get_by_name("a").increment() == 1
    await opening.close()


async def test_a_runtime_that_was_closed_is_dropped_in_silence(tmp_path: Path) -> None:
    runtime = await durable.open(tmp_path).start()
    await runtime.close()
    del runtime
    async with durable.open(tmp_path):  # no name for it, and not told of
        gc.collect()


async def test_a_store_closes_where_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a program Python 3.12 starts none."""

    async def refused(*args: Any, **options: Any) -> Any:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    runtime = await durable.open(tmp_path).start()
    await runtime.namespace(Counter).get_by_name("a").increment()
    with monkeypatch.context() as patch:
        patch.setattr("anyio.to_thread.run_sync", refused)
        await runtime.close()

    async with durable.open(tmp_path) as again:
        assert await again.namespace(Counter).get_by_name("a").increment() == 2


@pytest.mark.backends("asyncio")
async def test_another_loop_cannot_close_a_store(tmp_path: Path) -> None:
    runtime = await durable.open(tmp_path).start()
    with pytest.raises(durable.WrongLoop):
        await anyio.to_thread.run_sync(lambda: anyio.run(runtime.close))
    await runtime.close()


def test_on_trio_a_store_is_open_within_one_run(tmp_path: Path) -> None:
    """Each `trio.run` is a loop of its own; a store that one has left is free for the next."""
    kept: list[durable.Runtime] = []

    async def first() -> None:
        kept.append(await durable.open(tmp_path).start())
        assert await kept[0].namespace(Counter).get_by_name("a").increment() == 1

    async def second() -> None:
        with pytest.raises(durable.WrongLoop):
            kept[0].namespace(Slow)
        runtime = await durable.open(tmp_path).start()
        assert await runtime.namespace(Counter).get_by_name("a").increment() == 2
        await runtime.close()

    trio.run(first)
    trio.run(second)
    with pytest.warns(ResourceWarning, match="dropped without being closed"):
        kept.clear()


# Cells, as IPython runs them: code with `await` at its top level, one after the other on one loop


CLASS = """
class Counter(durable.DurableObject):
    async def increment(self):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value
"""


@pytest.fixture
def cell() -> Iterator[Callable[[str], Any]]:
    """Runs a cell; returns what it assigns to `_`."""
    main = types.ModuleType("__main__")
    main.durable = durable  # type: ignore[attr-defined]
    loop = asyncio.new_event_loop()

    async def step(source: str) -> Any:
        code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, main.__dict__)
        if inspect.iscoroutine(result):
            await result
        return main.__dict__.get("_")

    def run(source: str) -> Any:
        return loop.run_until_complete(step(source))

    yield run
    loop.close()


def test_a_store_is_open_over_cells(cell: Callable[[str], Any], tmp_path: Path) -> None:
    cell(CLASS)
    cell(f"runtime = await durable.open({str(tmp_path)!r}).start()")
    cell("counters = runtime.namespace(Counter)")
    assert cell("_ = await counters.get_by_name('a').increment()") == 1
    assert cell("_ = await counters.get_by_name('a').increment()") == 2
    cell("await runtime.close()")
    cell(f"async with durable.open({str(tmp_path)!r}) as runtime: pass")


def test_a_class_that_is_defined_again_takes_the_place_of_the_former(
    cell: Callable[[str], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a note, and no warning; namespaces that were handed out before find the new code."""
    cell(CLASS)
    cell(f"runtime = await durable.open({str(tmp_path)!r}, bindings={{'C': Counter}}).start()")
    cell("_ = await runtime.namespace(Counter).get_by_name('a').increment()")
    cell("stub = runtime.env.C.get_by_name('a'); await stub.increment()")
    cell("Former = Counter")

    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "durable"):
        warnings.simplefilter("error")
        cell(CLASS.replace("+ 1", "+ 100"))
        assert cell("_ = await runtime.namespace(Counter).get_by_name('a').increment()") == 102

    note = next(r for r in caplog.records if "defined again" in r.getMessage())
    assert note.levelno == logging.INFO
    assert note.getMessage().startswith("__main__.Counter was defined again")
    assert cell("_ = await runtime.env.C.get_by_name('a').increment()") == 202
    with pytest.raises(durable.ObjectReset, match="code was updated"):
        cell("await stub.increment()")
    # Cells that still have the former class do not bring it back.
    with pytest.raises(ValueError, match="one class called Counter"):
        cell("runtime.namespace(Former)")
    cell("await runtime.close()")


def test_a_module_that_is_reloaded_brings_its_classes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "reloaded_counters.py"
    file.write_text("import durable\n" + CLASS)

    async def main() -> None:
        module = importlib.import_module("reloaded_counters")
        async with durable.open(tmp_path / "s", bindings={"C": module.Counter}) as runtime:
            assert await runtime.env.C.get_by_name("a").increment() == 1
            file.write_text("import durable\n" + CLASS.replace("+ 1", "+ 1_000_000"))
            module = importlib.reload(module)
            counters = runtime.namespace(module.Counter)
            assert await counters.get_by_name("a").increment() == 1_000_001

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    asyncio.run(main())


async def test_a_class_of_the_same_name_from_elsewhere_is_no_later_version(
    tmp_path: Path,
) -> None:
    """Nor one that a function has made: it may differ in what it closes over."""

    def made() -> type[durable.DurableObject]:
        class Local(durable.DurableObject):
            pass

        return Local

    elsewhere = type("Counter", (durable.DurableObject,), {"__module__": "elsewhere"})
    async with durable.open(tmp_path, bindings={"C": Counter}) as runtime:
        with pytest.raises(ValueError, match=r"one class called Counter.*runtime\.replace"):
            runtime.namespace(elsewhere)
        runtime.namespace(made())
        with pytest.raises(ValueError, match="one class called Local"):
            runtime.namespace(made())


async def test_a_class_that_cannot_be_used_does_not_replace(tmp_path: Path) -> None:
    later = type("Counter", (Counter,), {"__module__": __name__, "name": lambda self: "x"})
    async with durable.open(tmp_path, bindings={"C": Counter}) as runtime:
        with pytest.raises(TypeError, match="name"):
            runtime.namespace(later)
        assert await runtime.env.C.get_by_name("a").increment() == 1
