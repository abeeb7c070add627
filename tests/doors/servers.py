"""Real servers for the tests of the doors: a process of its own on a port that the system picks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from attrs import define

HERE = Path(__file__).parent
START_S_MAX = 30.0

_UVICORN = ["uvicorn", "{app}", "--fd", "{fd}", "--log-level", "warning"]
_HYPERCORN = ["hypercorn", "{app}", "--bind", "fd://{fd}"]
_GUNICORN = [
    *("gunicorn", "{app}", "--bind", "fd://{fd}"),
    *("--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"),
]
_GRANIAN = ["granian", "--interface", "asgi", "{app}", "--host", "127.0.0.1", "--port", "{port}"]
COMMANDS = {
    "uvicorn": _UVICORN,
    "uvicorn-wsproto": [*_UVICORN, "--http", "h11", "--ws", "wsproto"],
    "hypercorn": _HYPERCORN,
    "hypercorn-trio": [*_HYPERCORN, "--worker-class", "trio"],
    "gunicorn": _GUNICORN,
    "granian": _GRANIAN,
}


@define(eq=False)
class Server:
    """A server that runs."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, and wait until it has ended."""
        self.process.send_signal(how)
        self.process.wait(timeout=START_S_MAX)

    def wait_logged(self, text: str, count: int = 1) -> str:
        """What it has logged, once *text* is in it so many times."""
        end_s = time.monotonic() + START_S_MAX
        while (logged := self.log.read_text()).count(text) < count:
            assert time.monotonic() < end_s, f"{text!r} was not logged, but:\n{logged}"
            time.sleep(0.02)
        return logged


@contextmanager
def serving(
    name: str, app: str, folder: Path, *, port: int = 0, where: Path = HERE
) -> Iterator[Server]:
    """Run *app*, a `module:name` of *where*, by one of the servers; its store is in *folder*."""
    pytest.importorskip(name.partition("-")[0])
    if name.startswith("uvicorn"):
        pytest.importorskip("wsproto" if "wsproto" in name else "websockets")
    if name.startswith("gunicorn"):
        pytest.importorskip("uvicorn_worker")
    folder.mkdir(exist_ok=True)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        fd = listening.fileno()
        if "{port}" in COMMANDS[name]:  # it listens there itself, while this keeps the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(("127.0.0.1", port))
        else:
            listening.bind(("127.0.0.1", port))
            listening.listen(128)
        used_port = listening.getsockname()[1]
        command = [part.format(app=app, fd=fd, port=used_port) for part in COMMANDS[name]]
        log = folder / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=where,
                env={**os.environ, "STORE": str(folder / "store"), "PYTHONPATH": _paths(where)},
                pass_fds=[fd],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        server = Server(name, process, used_port, log)
    try:
        _wait_answers(server)
        yield server
    finally:
        # Its whole group: hypercorn serves in a process of its own, which outlives a killed parent.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _paths(where: Path) -> str:
    return os.pathsep.join([str(HERE.parents[1]), str(where)])


def _wait_answers(server: Server) -> None:
    """Return when it answers. As a rule the port listens already, so this is one request."""
    end_s = time.monotonic() + START_S_MAX
    while True:
        try:
            httpx.get(server.url + "/ready", timeout=START_S_MAX)
        except httpx.HTTPError as error:
            is_early = isinstance(error, httpx.ConnectError) and server.process.poll() is None
            if not is_early or time.monotonic() > end_s:
                raise AssertionError(f"{error!r}\n{server.log.read_text()}") from error
            time.sleep(0.02)
        else:
            return
