"""P1: at most one live instance of an id exists in the store, ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store


class Actor(durable.DurableObject):
    born: list[Actor] = []

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.count = 0
        Actor.born.append(self)

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(id(self)))

    def me(self) -> int:
        return id(self)

    async def alarm(self) -> None:
        self.ctx.storage.put("rung by", id(self))

    async def set_alarm(self) -> None:
        self.ctx.storage.set_alarm(self.ctx.storage.kv.get("none", 1))

    def rung_by(self) -> int | None:
        return self.ctx.storage.kv.get("rung by")


class Other(durable.DurableObject):
    pass


@pytest.fixture(autouse=True)
def nobody_born() -> None:
    Actor.born.clear()


async def test_all_stubs_of_an_id_reach_one_instance(runtime: durable.Runtime) -> None:
    """However an object is addressed, and by whatever kind of event, it is the same instance."""
    actors = runtime.namespace(Actor)
    object_id = actors.id_from_name("a")
    stubs = [
        actors.get_by_name("a"),
        actors.get(object_id),
        actors.get(actors.id_from_string(str(object_id))),
    ]

    answers = [await stub.me() for stub in stubs]
    answers += [int(await (await stub.fetch("https://a/")).text()) for stub in stubs]
    await stubs[0].set_alarm()
    await durable.testing.run_alarm(stubs[1])
    answers.append(await stubs[2].rung_by())

    assert set(answers) == {id(Actor.born[0])}
    assert len(Actor.born) == 1


async def test_first_calls_that_race_build_one_instance(
    runtime: durable.Runtime, start: Start[int]
) -> None:
    """A hundred calls at once to an object that is not in memory find one instance."""
    calls = [start(runtime.namespace(Actor).get_by_name("a").me()) for _ in range(100)]

    assert len({await call.result() for call in calls}) == 1
    assert len(Actor.born) == 1


async def test_an_object_that_is_evicted_under_way_is_still_one(
    store: Store, runtime: durable.Runtime
) -> None:
    """After an eviction the old instance is not called any more."""
    stub = runtime.namespace(Actor).get_by_name("a")
    first = await stub.me()
    await durable.testing.evict(stub)

    answers = {await stub.me(), await runtime.namespace(Actor).get_by_name("a").me()}

    assert len(Actor.born) == 2
    assert answers == {id(Actor.born[1])}
    assert first == id(Actor.born[0])


async def test_different_ids_are_different_objects(runtime: durable.Runtime) -> None:
    """One instance each: names, unique ids and classes do not share."""
    actors = runtime.namespace(Actor)
    stubs = [actors.get_by_name("a"), actors.get_by_name("b"), actors.get(actors.new_unique_id())]

    assert len({await stub.me() for stub in stubs}) == 3


@pytest.mark.one_folder
async def test_a_second_open_of_this_process_gets_store_in_use(
    store: Store, runtime: durable.Runtime
) -> None:
    """The folder has one owner; the error names its pid."""
    with pytest.raises(durable.StoreInUse) as caught:
        async with store.open():
            raise AssertionError("two owners")

    assert caught.value.pid == os.getpid()
    assert str(os.getpid()) in str(caught.value)
    assert await runtime.namespace(Actor).get_by_name("a").me()  # the owner is unharmed


@pytest.mark.one_folder
async def test_a_second_open_by_another_way_to_the_folder_gets_store_in_use(
    store: Store, runtime: durable.Runtime
) -> None:
    """A symbolic link to the folder is the folder."""
    other = store.folder.with_name("link")
    other.symlink_to(store.folder, target_is_directory=True)

    with pytest.raises(durable.StoreInUse):
        async with durable.open(other):
            raise AssertionError("two owners")


async def test_a_store_can_be_opened_again_once_closed(store: Store) -> None:
    """Closing gives the folder free, for this process and others."""
    for _ in range(3):
        async with store.open() as runtime:
            await runtime.namespace(Actor).get_by_name("a").set_alarm()


HOLDER = """
    import sys, anyio, durable

    class Actor(durable.DurableObject):
        async def keep(self):
            await self.ctx.storage.put("kept", True)

    async def main():
        async with durable.open(sys.argv[1]) as runtime:
            await runtime.namespace(Actor).get_by_name("a").keep()
            print("open", flush=True)
            await anyio.sleep(60)

    anyio.run(main)
"""


def hold_in_another_process(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    return holder


@pytest.mark.backends("asyncio")
async def test_another_process_gets_store_in_use_and_a_killed_one_leaves_nothing_to_clean_up(
    store: Store,
) -> None:
    """The error names the holder's pid; once that was killed, the folder opens as if closed."""
    holder = await anyio.to_thread.run_sync(hold_in_another_process, store.folder)
    try:
        with pytest.raises(durable.StoreInUse) as caught:
            async with store.open():
                raise AssertionError("two owners")
        assert caught.value.pid == holder.pid
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()

    async with store.open() as runtime:
        kept = await durable.testing.run_in_object(
            runtime.namespace(Actor).get_by_name("a"), lambda _, ctx: ctx.storage.get("kept")
        )
        assert kept is True


async def test_a_runtime_is_refused_after_its_end(store: Store) -> None:
    """Calls after close raise RuntimeClosed, with what to do instead."""
    async with store.open() as runtime:
        stub = runtime.namespace(Actor).get_by_name("a")

    with pytest.raises(durable.RuntimeClosed, match="async with"):
        stub.me()
    with pytest.raises(durable.RuntimeClosed):
        runtime.namespace(Other)


async def test_a_runtime_is_refused_on_another_thread(runtime: durable.Runtime) -> None:
    """A runtime belongs to the loop that opened it."""
    stub = runtime.namespace(Actor).get_by_name("a")

    with pytest.raises(durable.WrongLoop):
        await anyio.to_thread.run_sync(stub.me)
    with pytest.raises(durable.WrongLoop):
        await anyio.to_thread.run_sync(lambda: anyio.run(stub.me))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_runtime_is_refused_in_a_forked_child(runtime: durable.Runtime) -> None:
    """A child that was forked with a runtime open does not own it."""
    stub = runtime.namespace(Actor).get_by_name("a")
    child = os.fork()
    if not child:  # pragma: no cover - coverage is not written there
        code = 1
        try:
            stub.me()
        except durable.WrongLoop:
            code = 0
        finally:
            os._exit(code)

    _, status = os.waitpid(child, 0)  # noqa: ASYNC222
    assert os.waitstatus_to_exitcode(status) == 0


SECOND = """
import sys, anyio, durable

async def main():
    try:
        async with durable.open(sys.argv[1]):
            print("opened")
    except durable.StoreInUse as error:
        print(error.pid)

anyio.run(main)
"""


@pytest.mark.one_folder
async def test_an_owner_whose_file_is_taken_away_is_still_the_only_one(
    store: Store, runtime: durable.Runtime
) -> None:
    """A cleaner removes what looks like a stale lock: nobody gets in, and the owner goes on."""
    actor = runtime.namespace(Actor).get_by_name("a")
    (store.folder / "owner").unlink()

    second = await anyio.run_process([sys.executable, "-c", SECOND, str(store.folder)])
    assert second.stdout.decode() == f"{os.getpid()}\n"
    await actor.set_alarm()
    assert (store.folder / "owner").exists()


@pytest.mark.one_folder
async def test_nothing_is_confirmed_in_a_folder_that_was_replaced(store: Store) -> None:
    """The next start would not find it."""
    async with store.open() as runtime:
        actors = runtime.namespace(Actor)
        await actors.get_by_name("a").set_alarm()
        shutil.copytree(store.folder, store.folder.with_name("backup"))
        store.folder.rename(store.folder.with_name("before"))
        store.folder.with_name("backup").rename(store.folder)

        for name in ("a", "b"):
            with pytest.raises(durable.CommitFailed, match="replaced"):
                await actors.get_by_name(name).set_alarm()
