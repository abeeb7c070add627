"""How does workerd, Cloudflare's own runtime, compare? Beside it: ours, by turns, in one run.

Here "plain" is workerd. It runs the same objects (worker.js), and the calls are made from inside of
it: one request asks for a whole round, and its time is taken outside.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import anyio
import anyio.to_thread

import durable

from ..harness import Aim, Row, Setting, Work, compare, main, rate_at_least, together

HERE = Path(__file__).parent
# The program itself, without the script around it: that one would be killed in its stead.
PROGRAMS = "node_modules/@cloudflare/workerd-*/bin/workerd*"
START_S_MAX = 20.0
REQUEST_S_MAX = 600.0


class Counter(durable.DurableObject):
    """As in worker.js."""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def method(self) -> int:
        return 1

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(status=204)


def program() -> Path | None:
    return next(iter(sorted(HERE.glob(PROGRAMS))), None)


def why_not() -> str | None:
    """What is missing, and what to do about it; None if workerd can be run."""
    if program() is not None:
        return None
    if shutil.which("node") is None:
        return "there is no node on this machine; install it, then see benchmarks/workerd/README.md"
    return "the workerd package is not there; run `npm install` in benchmarks/workerd"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """workerd with its store in *folder*, on a port of loopback."""
    port = free_port()
    words = [
        *(str(program()), "serve", str(HERE / "config.capnp")),
        *(f"--socket-addr=http=127.0.0.1:{port}", f"--directory-path=store={folder}"),
    ]
    with (folder.parent / "workerd.log").open("w+b") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            _wait_serving(process, port, Path(log.name))
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_serving(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + START_S_MAX
    while time.monotonic() < until_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"workerd does not answer: {log.read_text(errors='replace')[-2_000:]}")


def theirs(port: int, path: str, *, callers: int = 1, objects: int = 1) -> Work:
    """So many calls from inside of workerd, by one request."""

    def request(count: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_S_MAX)
        connection.request("GET", f"{path}?count={count}&callers={callers}&objects={objects}")
        answer = connection.getresponse().read()
        connection.close()
        assert answer == b"done", answer

    async def work(count: int) -> None:
        assert count % callers == 0
        await anyio.to_thread.run_sync(request, count // callers)

    return work


async def ask(setting: Setting) -> list[Row]:
    with serving(setting.new_folder()) as port:
        async with durable.open(setting.new_folder(), bindings={"COUNTERS": Counter}) as runtime:
            counters = runtime.env.COUNTERS
            return [
                *await one_caller(setting, port, counters),
                *await many(setting, port, counters),
            ]


async def one_caller(
    setting: Setting, port: int, counters: durable.Namespace[Counter]
) -> list[Row]:
    stub = counters.get_by_name("one caller")

    async def fetches(count: int) -> None:
        for _ in range(count):
            await stub.fetch("https://object/path?query=1")

    async def methods(count: int) -> None:
        for _ in range(count):
            await stub.method()

    async def increments(count: int) -> None:
        for _ in range(count):
            await stub.increment()

    rounds = setting.pick(1, 11, 31)
    calls = setting.pick(50, 2_000, 5_000)
    method = await compare(methods, theirs(port, "/method"), rounds=rounds, count=calls)
    fetch = await compare(fetches, theirs(port, "/fetch"), rounds=rounds, count=calls)
    increment = await compare(
        increments, theirs(port, "/increment"), rounds=rounds, count=setting.pick(5, 200, 500)
    )
    return [
        row("await stub.method()", method, rate_at_least(10)),
        row("await stub.fetch(url)", fetch, rate_at_least(9)),
        row("durable increment, one caller", increment, None),
    ]


async def many(setting: Setting, port: int, counters: durable.Namespace[Counter]) -> list[Row]:
    callers = setting.pick(20, 1_000, 1_000)
    each = setting.pick(1, 10, 20)

    async def increments(objects: int) -> tuple[list[float], list[float]]:
        stubs = [counters.get_by_name(f"{objects}: {n % objects}") for n in range(callers)]

        async def call(number: int) -> None:
            for _ in range(each):
                await stubs[number].increment()

        return await compare(
            lambda count: together(callers, call),
            theirs(port, "/increment", callers=callers, objects=objects),
            rounds=setting.pick(1, 7, 21),
            count=callers * each,
        )

    what = f"durable increments, {callers:,} callers on"
    return [
        row(f"{what} {callers:,} objects", await increments(callers), rate_at_least(20)),
        row(f"{what} one object", await increments(1), rate_at_least(20)),
    ]


def row(what: str, figures: tuple[list[float], list[float]], aim: Aim | None) -> Row:
    return Row(what, "µs", figures[0], "workerd", figures[1], aim or rate_at_least(1))


if __name__ == "__main__":
    missing = why_not()
    if missing is not None:
        sys.exit(f"Skipped: {missing}.")
    main(__doc__, ask)
