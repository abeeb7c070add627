"""Every command that looks, on a store in a database while its process runs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from attrs import define

import durable
from durable._postgres import looking
from durable.cli import main
from tests import postgres

pytest.importorskip("click")
pytest.importorskip("rich")
pytestmark = pytest.mark.backends("asyncio", "trio")

LIMITS = durable.Limits(lease_s=60.0, shutdown_s_max=1.0)
PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        await self.ctx.storage.set_alarm(4_000_000_000.0)
        return value

    async def alarm(self) -> None:
        pass


@define
class Commands:
    """Commands on the store, which run beside the event loop."""

    url: str
    capsys: pytest.CaptureFixture[str]

    async def run(self, command: str, *more: str, status: int = 0) -> str:
        """What it prints."""
        ended = await to_thread.run_sync(main, [command, self.url, *more])
        printed = self.capsys.readouterr()
        assert ended == status, printed.err
        return printed.out + printed.err


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """It outlives each test, which a process that a test has begun does not."""
    postgres.server()


@pytest.fixture
async def commands(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Commands]:
    with postgres.store_url() as url:
        opening = durable.open(
            url, peers=PEERS, bindings={"COUNTERS": Counter}, limits=LIMITS, operate=True
        )
        async with opening as runtime:
            await runtime.env.COUNTERS.get_by_name("a").increment()
            yield Commands(url, capsys)


async def test_commands_look_at_a_database_in_use(commands: Commands, tmp_path: Path) -> None:
    """They find what a process has just stored, and who that is; none disturbs it."""
    run = commands.run
    assert "Counter" in await run("ls")
    assert "a" in await run("ls", "Counter")
    assert "value" in await run("show", "Counter", "a")
    assert "Counter" in await run("alarms")
    stats = await run("stats")
    assert "objects" in stats
    assert "readers" not in stats  # of LMDB's
    peers = await run("peers")
    assert str(os.getpid()) in peers
    assert "127.0.0.1:" in peers
    top: Any = json.loads((await run("top", "--count", "1", "--json")).splitlines()[-1])
    assert top["pids"] == [os.getpid()]
    assert await run("call", "Counter", "a", "increment") == "2\n"
    assert '"objects":1,"values":1' in await run("export")
    assert "setting fsync" in await run("check", status=1)  # the tests' server is quick
    await run("copy", str(tmp_path / "copy"))
    assert await to_thread.run_sync(main, ["check", str(tmp_path / "copy")]) == 0


async def test_processes_of_another_machine_are_watched_by_a_configuration(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says in which variable the secret of the processes is."""
    monkeypatch.setattr(looking, "this_machine", lambda: "another one")
    monkeypatch.setenv("PEERS_SECRET", "the secret of sixteen bytes and more")
    config = tmp_path / "durable.toml"
    config.write_text(
        'name = "a"\nmain = "a"\n[peers]\nlisten = "127.0.0.1:0"\nsecret = "PEERS_SECRET"\n'
    )
    printed = await commands.run("top", "--count", "1", "--config", str(config), "--json")
    assert json.loads(printed)["pids"] == [os.getpid()]
    peers = await commands.run("peers", "--config", str(config), "--json")
    assert json.loads(peers)["live_objects"] == 1
    assert json.loads(await commands.run("peers", "--json"))["live_objects"] is None

    await commands.run("top", "--count", "1", status=1)
    config.write_text('name = "a"\nmain = "a"\n')
    refused = await commands.run("tail", "--config", str(config), status=1)
    assert "has no table [peers]" in refused


async def test_what_needs_the_store_for_itself_says_who_has_it(
    commands: Commands, tmp_path: Path
) -> None:
    """An import, and a move."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text(await commands.run("export"))
    for command in (("import", str(lines)), ("copy", "--move", str(tmp_path / "moved"))):
        said = await commands.run(*command, status=1)
        assert f"in use by process {os.getpid()}" in said
    assert not (tmp_path / "moved").exists()
