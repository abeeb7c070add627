"""A running program can be watched through a socket, if it was opened so, and by its user only."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

import durable
from durable import operate

from .conftest import Watched, Worker

pytestmark = pytest.mark.backends("asyncio", "trio")


def first(events: Iterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == kind)


async def test_events_are_seen_as_they_happen(watched: Watched) -> None:
    """Who watches is told what observers are told, and the program of nobody who does not."""
    async with watched.open(observer=None, operate=True) as runtime:
        events = await to_thread.run_sync(operate.events, watched.folder)
        await to_thread.run_sync(first, events, "Watching")
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
        ended = await to_thread.run_sync(first, events, "DeliveryEnded")

    assert (ended["method"], ended["name"], ended["outcome"]) == ("put", "a", "ok")
    assert all(event["event"] != "Watching" for event in events)  # it ends when the store is closed
    assert not (watched.folder / "operate").exists()


async def test_the_busiest_objects_are_seen(watched: Watched) -> None:
    """A report has the objects with the most deliveries, and the statistics of the runtime."""
    async with watched.open(observer=None, operate=True) as runtime:
        tops = await to_thread.run_sync(operate.tops, watched.folder)
        await to_thread.run_sync(next, tops)
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
        report = await to_thread.run_sync(next, tops)

    assert report["deliveries"] == report["commits"] == 1
    assert [each["name"] for each in report["objects"]] == ["a"]
    assert report["statistics"]["live_objects"] == 1


async def test_the_socket_is_closed_to_others(watched: Watched) -> None:
    """It stands in a folder that only the program's user may enter."""
    async with watched.open(observer=None, operate=True):
        mode = os.stat(watched.folder / "operate").st_mode

    assert stat.S_IMODE(mode) == 0o700


async def test_a_store_is_not_watched_unless_it_was_opened_so(watched: Watched) -> None:
    """Nothing listens by default; the error says what to do."""
    async with watched.open(observer=None):
        assert not (watched.folder / "operate").exists()
        with pytest.raises(operate.NotRunning, match="operate=True"):
            operate.events(watched.folder)


async def test_a_dead_process_leaves_nothing_in_the_way(watched: Watched) -> None:
    """A socket that was left behind is taken over."""
    (watched.folder / "operate").mkdir(parents=True, mode=0o700)
    (watched.folder / "operate" / "socket").touch()
    (watched.folder / "operate").rename(watched.folder.parent / "left")
    watched.folder.rmdir()
    async with watched.open(observer=None):
        pass
    (watched.folder.parent / "left").rename(watched.folder / "operate")
    async with watched.open(observer=None, operate=True):
        events = await to_thread.run_sync(operate.events, watched.folder)
        assert await to_thread.run_sync(first, events, "Watching")


async def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    """The address of a unix socket is short, the path of a store need not be."""
    folder = tmp_path / ("x" * 150)
    async with durable.open(folder, bindings={"WORKERS": Worker}, operate=True):
        events = await to_thread.run_sync(operate.events, folder)
        assert await to_thread.run_sync(first, events, "Watching")


async def test_a_read_only_folder_is_looked_at_through_the_socket(
    watched: Watched, tmp_path: Path
) -> None:
    """The program hands out its folder, so LMDB's lock is had there: what is written is seen."""
    mount = tmp_path / "mount"
    mount.mkdir()
    async with watched.open(observer=None, operate=True) as runtime:
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
        bind = ["mount", "--bind", str(watched.folder), str(mount)]
        if (await anyio.run_process(bind, check=False)).returncode:
            pytest.skip("nothing can be mounted here")
        try:
            await anyio.run_process(["mount", "-o", "remount,bind,ro", str(mount)])
            looker = await anyio.run_process([sys.executable, "-c", LOOKER, str(mount)])
            assert looker.stdout.decode().splitlines() == ["['a']", "True"]
        finally:
            await anyio.run_process(["umount", "--lazy", str(mount)])


LOOKER = """
import os, sys
from durable import operate
with operate.look(sys.argv[1]) as store, store.one_moment():
    print([found.name for found in store.objects()])
    print(str(os.getpid()) in store._engine.handle.env.readers())
"""
