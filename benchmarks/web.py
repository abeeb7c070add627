"""How many requests a second does a counter on the web answer? Beside it: Starlette and a dict.

All are served by uvicorn, in a process of their own, to clients that keep their connections. The
dict stores nothing; the third counter is Starlette with sqlite3, where each answer waits for the
disk as ours does. With many clients our commits are shared, those of sqlite3 are not.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import SocketStream

from .harness import RATE, Row, Setting, Work, compare, main, together

HERE = Path(__file__).resolve().parent
START_S_MAX = 30.0


async def ask(setting: Setting) -> list[Row]:
    rounds = setting.pick(2, 7, 31)
    rows = []
    async with (
        serving("ours", setting) as ours,
        serving("in_dict", setting) as in_dict,
        serving("in_sqlite", setting) as in_sqlite,
    ):
        for clients in (1, setting.pick(2, 64, 64)):
            count = clients * setting.pick(2, 100 if clients == 1 else 10, 50)
            for name, port in (("Starlette, dict", in_dict), ("Starlette, sqlite3", in_sqlite)):
                figures = await compare(
                    requests(ours, clients), requests(port, clients), rounds=rounds, count=count
                )
                rates = [[1e6 / us for us in side] for side in figures]
                what = f"requests of {clients} client{'s' * (clients > 1)}"
                rows.append(Row(what, RATE, rates[0], name, rates[1]))
    return rows


@asynccontextmanager
async def serving(name: str, setting: Setting) -> AsyncIterator[int]:
    """Serve one of the applications; gives the port."""
    port = free_port()
    process = start(name, port, setting.new_folder())
    try:
        await wait_serving(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    # Not a socket that the server inherits: of one of those uvicorn does not know that it is TCP,
    # and then answers wait for the client's delayed acknowledgement.
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        port: int = trying.getsockname()[1]
        return port


def start(name: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    uvicorn = [sys.executable, "-m", "uvicorn", f"benchmarks.web_apps:{name}"]
    return subprocess.Popen(
        [*uvicorn, "--port", str(port), "--no-access-log", "--log-level", "warning"],
        cwd=HERE.parent,
        env={**os.environ, "BENCH_FOLDER": str(folder)},
    )


async def wait_serving(port: int, process: subprocess.Popen[bytes]) -> None:
    with anyio.fail_after(START_S_MAX):
        while process.poll() is None:
            try:
                await requests(port, 1)(1)
            except* OSError:
                await anyio.sleep(0.05)
            else:
                return
    raise RuntimeError(f"the server ended with {process.returncode}")


def requests(port: int, clients: int) -> Work:
    """So many clients at once, each with a counter and a connection of its own."""

    async def work(count: int) -> None:
        async def client(number: int) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                for _ in range(count // clients):
                    await increment(stream, number)

        await together(clients, client)

    return work


async def increment(stream: SocketStream, number: int) -> None:
    await stream.send(b"GET /c%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await stream.receive()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += await stream.receive()


if __name__ == "__main__":
    main(__doc__, ask)
