"""How long is a call of an object of another process? Beside it: the same bytes by a bare socket.

The bare socket is a unix socket of asyncio: a request of as many bytes goes there and an answer of
as many comes back, found by its place in line. Nothing is decoded and nothing is delivered. One
caller, and a hundred at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

import durable
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._wire.frames import Kind, pack
from durable._wire.peer import Greeting, Peer, connect, serve

from .harness import Row, Setting, Work, compare, main, rate_at_least, together

REQUEST = pack(Kind.CALL, 10_000, 1, False, "method", None)
ANSWER = pack(Kind.ANSWER, 10_000, b"\x91\x01")
CALLERS = 100


class Quiet(durable.DurableObject):
    """Does nothing, and says so."""

    async def method(self) -> int:
        return 1


async def serve_objects(path: str, store: str) -> None:
    """The process that has the objects."""
    async with durable.open(store, bindings={"QUIET": Quiet}) as runtime:
        reach = OwnObjects(runtime._classes)
        crossing = crossing_of(runtime._services, runtime._classes)
        serve(path, Greeting(b"store", "objects"), crossing, reach, lambda peer: None)
        print("ready", flush=True)
        await anyio.sleep_forever()


async def serve_bytes(path: str, store: str) -> None:
    """The process that answers with bytes."""

    class Answers(asyncio.Protocol):
        transport: asyncio.Transport
        received = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            count, self.received = divmod(self.received, len(REQUEST))
            self.transport.write(ANSWER * count)

    await asyncio.get_running_loop().create_unix_server(Answers, path)
    print("ready", flush=True)
    await asyncio.sleep(3600)


class Asker(asyncio.Protocol):
    """Sends requests; the next answer is for the oldest of them."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        count, self.received = divmod(self.received, len(ANSWER))
        for _ in range(count):
            self.waiting.popleft().set_result(None)

    async def ask(self) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        self.transport.write(REQUEST)
        await answer


@contextmanager
def other_process(serves: str, path: str, store: Path) -> Iterator[None]:
    program = [sys.executable, "-m", "benchmarks.peers_wire", "--serve", serves, path, str(store)]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def by(callers: int, call: Callable[[], Awaitable[object]]) -> Work:
    """So many operations, by so many callers."""

    async def work(count: int) -> None:
        async def caller(_: int) -> None:
            for _ in range(max(1, count // callers)):
                await call()

        await together(callers, caller)

    return work


async def ask(setting: Setting) -> list[Row]:
    if setting.backend == "trio":
        return []  # what stands beside is of asyncio
    rounds = setting.pick(3, 31, 101)
    folder = setting.new_folder()
    count = setting.pick(100, 2_000, 5_000)
    # The address of a unix socket is short, and the folder's may be long.
    with ExitStack() as stack:
        sockets = stack.enter_context(TemporaryDirectory())
        objects, bare = f"{sockets}/objects", f"{sockets}/bare"
        stack.enter_context(other_process("objects", objects, folder / "objects"))
        stack.enter_context(other_process("bytes", bare, folder / "bare"))
        async with durable.open(folder / "callers", bindings={"QUIET": Quiet}) as runtime:
            peer = await _peer(runtime, objects)
            stub = runtime.env.QUIET.get_by_name("one")
            stub._channel = peer.channel(runtime.env.QUIET.record.number, stub.id)
            loop = asyncio.get_running_loop()
            _, asker = await loop.create_unix_connection(Asker, bare)

            async def row(callers: int, what: str) -> Row:
                ours, plain = await compare(
                    by(callers, stub.method),
                    by(callers, asker.ask),
                    rounds=rounds,
                    count=count,
                )
                beside = "as many bytes by a unix socket"
                return Row(what, "µs", ours, beside, plain, rate_at_least(0.4))

            rows = [
                await row(1, "a call of an object of another process, one caller"),
                await row(CALLERS, f"the same, {CALLERS} callers"),
            ]
            asker.transport.close()
            peer.close()
            return rows


async def _peer(runtime: durable.Runtime, path: str) -> Peer:
    crossing = crossing_of(runtime._services, runtime._classes)
    reach = OwnObjects(runtime._classes)
    return await connect(path, Greeting(b"store", "callers"), crossing, reach)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        served = {"objects": serve_objects, "bytes": serve_bytes}[sys.argv[2]]
        anyio.run(served, *sys.argv[3:])
    else:
        main(__doc__, ask)
