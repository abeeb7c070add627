"""Objects in a real process beside this one: it works, is stopped, is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from attrs import define, field

import durable
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._runtime.stub import Stub
from durable._wire import link
from durable._wire.peer import Greeting, Peer, connect
from tests.wire import objects_program
from tests.wire.objects_program import Counter

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="unix sockets between processes"),
]

ROOT = Path(__file__).resolve().parents[2]


@define(eq=False)
class Program:
    """The other process."""

    folder: Path
    socket: str
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        program = [sys.executable, "-m", "tests.wire.objects_program", str(self.folder)]
        self.process = subprocess.Popen(
            [*program, self.socket], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as short:
        program = Program(tmp_path / "objects", f"{short}/socket")
        program.start()
        yield program
        program.kill()


@define(eq=False)
class Here:
    """This process, and what it has of the other one."""

    runtime: durable.Runtime
    program: Program
    peer: Peer | None = None

    async def connect(self) -> Peer:
        services, classes = self.runtime._services, self.runtime._classes
        self.peer = await connect(
            self.program.socket,
            Greeting(b"store", "here"),
            crossing_of(services, classes),
            OwnObjects(classes),
        )
        return self.peer

    def stub(self, name: str) -> Stub[Counter]:
        stub = self.runtime.namespace(Counter).get_by_name(name)
        assert self.peer is not None
        stub._channel = self.peer.channel(stub._entry.record.number, stub.id)
        return stub


@pytest.fixture
async def here(tmp_path: Path, program: Program) -> AsyncIterator[Here]:
    async with durable.open(tmp_path / "here", bindings={"COUNTERS": Counter}) as runtime:
        here = Here(runtime, program)
        await here.connect()
        yield here
        assert here.peer is not None
        here.peer.close()


async def test_everything_works_from_another_process(here: Here) -> None:
    stub = here.stub("a")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(10):
            yield bytes([number])

    assert await stub.increment(5) == 5
    assert [item async for item in stub.count(5)] == list(range(5))
    with pytest.raises(objects_program.Refusal, match="no") as caught:
        await stub.refuse()
    assert f"process {here.program.process.pid}" in caught.value.__notes__[0]
    assert await stub.call(Counter.call, lambda text: text.upper()) == "FROM AFAR"
    response = await stub.fetch("https://a/echo", method="POST", body=chunks())
    assert await response.bytes() == bytes(range(10))
    ws = (await stub.fetch("https://a/socket")).websocket
    assert ws is not None
    ws.accept()
    ws.send("hello")
    assert await anext(ws) == "hello"


async def test_a_stopped_process_is_told_within_a_bound(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its answers, should it go on, are not heard."""
    monkeypatch.setattr(link, "BEAT_S", 0.05)
    assert here.peer is not None
    here.peer.close()
    await here.connect()
    stub = here.stub("a")
    assert await stub.increment() == 1
    here.program.signal(signal.SIGSTOP)
    try:
        with anyio.fail_after(10), pytest.raises(durable.ObjectUnreachable, match="nothing was"):
            await stub.increment()
    finally:
        here.program.signal(signal.SIGCONT)

    await here.connect()
    assert await here.stub("a").value() in {1, 2}


async def _increment_until_unreachable(stub: Stub[Counter]) -> int:
    """The last value that was confirmed."""
    confirmed = await stub.value()
    channel = stub._channel
    assert channel is not None
    # It may also be gone between two calls: then another call would find another object.
    while not channel.is_gone:
        try:
            confirmed = await stub.increment()
        except durable.ObjectUnreachable:
            break
    return confirmed


async def test_what_a_killed_process_has_confirmed_is_there(here: Here) -> None:
    """A call under way gets ObjectUnreachable: it may have been carried out, once."""
    for _ in range(3):
        confirmed: dict[str, int] = {}

        async def load(name: str, confirmed: dict[str, int] = confirmed) -> None:
            confirmed[name] = await _increment_until_unreachable(here.stub(name))

        async with anyio.create_task_group() as tasks:
            for name in "abcde":
                tasks.start_soon(load, name)
            await anyio.sleep(0.1)
            here.program.signal(signal.SIGKILL)
        here.program.kill()
        here.program.start()
        await here.connect()

        for name, value in confirmed.items():
            assert value <= await here.stub(name).value() <= value + 1
