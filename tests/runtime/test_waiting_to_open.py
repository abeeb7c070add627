"""`wait_s`: an open waits for the owner of the folder to go, and no longer than it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import durable
import durable.asgi
import durable.testing

FILE = """
main = "shop.py"
path = "store"
wait_s = 20
[env.impatient]
wait_s = 0
"""


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


async def fetch(request: durable.Request, env: object) -> durable.Response:
    return durable.Response("hello")


async def test_an_open_waits_for_the_owner_to_go(tmp_path: Path) -> None:
    """It goes on with what the owner has written last."""
    opened = anyio.Event()
    close = anyio.Event()
    values: list[int] = []

    async def own() -> None:
        async with durable.open(tmp_path) as runtime:
            opened.set()
            await close.wait()
            values.append(await runtime.namespace(Counter).get_by_name("a").increment())

    async def succeed() -> None:
        async with durable.testing.open(tmp_path, wait_s=60) as runtime:
            values.append(await runtime.namespace(Counter).get_by_name("a").increment())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own)
            await opened.wait()
            tasks.start_soon(succeed)
            await anyio.sleep(0.2)
            assert values == []
            close.set()

    assert values == [1, 2]


async def test_the_time_is_kept_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    """With several workers of a server the second one never comes to its turn."""
    async with durable.open(tmp_path):
        began_s = anyio.current_time()
        with pytest.raises(durable.StoreInUse, match=r"shared=True in all processes.*`wait_s`"):
            async with durable.open(tmp_path, wait_s=0.2):
                raise AssertionError("two owners")
        assert anyio.current_time() - began_s > 0.15  # loops round their clocks


async def test_a_wait_can_be_cancelled(tmp_path: Path) -> None:
    """It leaves nothing: the owner closes, and the next one opens."""
    async with durable.open(tmp_path):
        with anyio.move_on_after(0.1) as scope:
            async with durable.open(tmp_path, wait_s=600):
                raise AssertionError("two owners")
        assert scope.cancelled_caught
    async with durable.open(tmp_path):
        pass


async def test_a_file_can_say_it(tmp_path: Path) -> None:
    """An environment may have its own; the argument goes before both."""
    (tmp_path / "shop.py").write_text("")
    (tmp_path / "durable.toml").write_text('name = "shop"\n' + FILE)
    file = tmp_path / "durable.toml"
    async with durable.open(tmp_path / "store") as runtime:
        assert runtime
        with pytest.raises(durable.StoreInUse):
            async with durable.open_config(file, environment="impatient"):
                raise AssertionError("two owners")
        with pytest.raises(durable.StoreInUse):
            async with durable.open_config(file, wait_s=0):
                raise AssertionError("two owners")
        with anyio.move_on_after(0.2) as scope:
            async with durable.open_config(file):
                raise AssertionError("two owners")
        assert scope.cancelled_caught


@pytest.mark.parametrize("wait_s", [-1, True, "5", float("nan"), None])
def test_what_is_no_time_is_refused_at_the_call(tmp_path: Path, wait_s: object) -> None:
    """Nothing is opened."""
    with pytest.raises(ValueError, match="wait_s must be a number of seconds"):
        durable.open(tmp_path / "new", wait_s=wait_s)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wait_s must be a number of seconds"):
        durable.asgi.app(fetch, tmp_path / "new", wait_s=wait_s)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wait_s", ["-1", "true", '"5"', "nan"])
def test_a_file_that_says_no_time_is_refused(tmp_path: Path, wait_s: str) -> None:
    """By the key."""
    (tmp_path / "durable.toml").write_text(f"wait_s = {wait_s}\n")
    with pytest.raises(durable.InvalidConfig, match="wait_s: it must be a number of seconds"):
        durable.open_config(tmp_path / "durable.toml", path=tmp_path / "store")


PROGRAM = """
import sys, anyio, durable

async def main():
    async with durable.open(sys.argv[1], wait_s=60):
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

anyio.run(main)
"""


def test_a_rolling_update_hands_the_store_on(tmp_path: Path) -> None:
    """The new process starts before the old one has ended, and opens when it has."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    processes = []
    try:
        for _ in range(2):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            processes.append(process)
            if len(processes) == 1:
                assert process.stdout is not None
                assert process.stdout.readline() == "open\n"
        old, new = processes
        old.communicate("end\n", timeout=30)
        assert old.returncode == 0
        said, _ = new.communicate("end\n", timeout=30)
        assert said == "open\n"
        assert new.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
