"""A process of a shared store is stopped, or dies and leaves a child: others are told in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from attrs import define, field

import durable
from durable._wire import link

from .forking_program import Counter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes do not fork there")

PROGRAM = Path(__file__).with_name("forking_program.py")
BINDINGS = {"COUNTERS": Counter}
# A bound for machines with much else to do.
TOLD_S_MAX = 20.0


@define(eq=False)
class Program:
    """The other process."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    children: list[int] = field(factory=list)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def fork(self) -> str:
        """Let it fork; what its child has got when it used the store."""
        assert self.process.stdin is not None
        self.process.stdin.write("fork\n")
        self.process.stdin.flush()
        error, pid = self.read().split()
        self.children.append(int(pid))
        return error

    def end(self) -> None:
        for pid in (*self.children, self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path / "store")
    program.start()
    yield program
    program.end()


async def have_shares(runtime: durable.Runtime) -> None:
    """Returns when both processes have a good part of the 16 shards."""
    while any(peer.shards < 4 for peer in await runtime.peers()):
        await anyio.sleep(0.01)


async def name_there(runtime: durable.Runtime, program: Program) -> str:
    """A name of an object that the other process has."""
    for number in range(10_000):
        name = str(number)
        if await runtime.env.COUNTERS.get_by_name(name).where() == program.process.pid:
            return name
    raise AssertionError("the other process has no objects")


async def test_a_forked_child_may_not_use_the_store_and_keeps_nothing_of_it(
    program: Program,
) -> None:
    """When its parent is killed, others are told at once and have the shards, though it lives."""
    async with durable.open(program.folder, shared=True, bindings=BINDINGS) as runtime:
        name = await name_there(runtime, program)
        counter = runtime.env.COUNTERS.get_by_name(name)
        assert await counter.increment() == 1
        assert await anyio.to_thread.run_sync(program.fork) == "WrongLoop"
        assert await counter.increment() == 2
        waiting = counter.wait()
        program.process.kill()

        with pytest.raises(durable.ObjectUnreachable, match="may have been carried out") as caught:
            await waiting
        assert "nothing was heard" not in str(caught.value)
        with anyio.fail_after(TOLD_S_MAX):
            while True:
                # A process that is just ending may still be connected to.
                with suppress(durable.ObjectUnreachable):
                    assert await runtime.env.COUNTERS.get_by_name(name).increment() == 3
                    break


async def test_a_stopped_process_holds_nobody_up_for_ever(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has cannot be reached, all else can, a process that comes too; then it goes on."""
    monkeypatch.setattr(link, "BEAT_S", 0.05)
    limits = durable.Limits(unreachable_s_max=0.5)
    options = {"shared": True, "bindings": BINDINGS, "limits": limits}
    async with durable.open(program.folder, **options) as runtime:
        with anyio.fail_after(TOLD_S_MAX):
            await have_shares(runtime)
        name = await name_there(runtime, program)
        program.process.send_signal(signal.SIGSTOP)
        try:
            with anyio.fail_after(TOLD_S_MAX):
                with pytest.raises(durable.ObjectUnreachable, match="nothing was heard"):
                    await runtime.env.COUNTERS.get_by_name(name).increment()
                # Of a call that was sent by another connection meanwhile nothing is known either.
                with pytest.raises(durable.ObjectUnreachable, match="carried out"):
                    await runtime.env.COUNTERS.get_by_name(name).increment()
                async with durable.open(program.folder, **options) as third:
                    peers = {peer.pid: peer for peer in await third.peers()}
                    assert peers[program.process.pid].live_objects is None
                    # Half of the objects are reached.
                    for number in count():
                        with suppress(durable.ObjectUnreachable):
                            await third.env.COUNTERS.get_by_name(f"third {number}").increment()
                            break
        finally:
            program.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(TOLD_S_MAX):
            while True:
                with suppress(durable.ObjectUnreachable):
                    # The first one may have been carried out.
                    assert await runtime.env.COUNTERS.get_by_name(name).increment() in {1, 2}
                    break
