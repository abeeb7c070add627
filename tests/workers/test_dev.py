"""`durable dev`: a Worker is served by a command, and its code reloaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field

from .conftest import PROGRAMS, write

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 30.0

COUNTER = """
from workers import DurableObject, Response, WorkerEntrypoint

class Counter(DurableObject):
    async def count(self):
        count = (await self.ctx.storage.get("count") or 0) + {step}
        await self.ctx.storage.put("count", count)
        return count

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/fail"):
            raise LookupError("of the author")
        return Response(f"{greeting} {{await self.env.COUNTERS.getByName('a').count()}}")
"""
CONFIG = """
name = "it"
main = "worker.py"
durable_objects.bindings = [{ name = "COUNTERS", class_name = "Counter" }]

[env.stage]
durable_objects.bindings = [{ name = "COUNTERS", class_name = "Counter" }]
"""


@define(eq=False)
class Served:
    """A Worker that is served by a process of its own."""

    process: subprocess.Popen[str]
    said: list[str] = field(factory=list)
    _heard: threading.Condition = field(factory=threading.Condition)

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line)
                self._heard.notify_all()

    def wait_said(self, text: str) -> str:
        """The first line with *text*."""

        def find() -> list[str]:
            return [line for line in self.said if text in line]

        with self._heard:
            found = self._heard.wait_for(find, WAIT_S_MAX)
            assert found, f"{text!r} was not said, but:\n{''.join(self.said)}"
            return found[0]

    @property
    def url(self) -> str:
        return self.wait_said("running on").split("running on ")[1].split()[0]

    def get(self, path: str = "/") -> str:
        with urllib.request.urlopen(self.url + path, timeout=WAIT_S_MAX) as response:
            return str(response.read().decode())


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Served]:
    """Serve the Worker of *folder*; at the end it must stop at a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "dev", *arguments, "--port", "0"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(process)
    listener = threading.Thread(target=served.listen)
    listener.start()
    try:
        yield served
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S_MAX) == 0
    finally:
        process.kill()
        process.wait()
        listener.join()
        assert process.stderr is not None
        process.stderr.close()


def test_a_worker_is_served(tmp_path: Path) -> None:
    """The file of the folder by default; a failure is shown with its traceback; an environment and
    a folder are chosen."""
    write(tmp_path, COUNTER.format(step=1, greeting="hello"), CONFIG)
    with serving(tmp_path) as served:
        assert [served.get(), served.get()] == ["hello 1", "hello 2"]
        with pytest.raises(urllib.error.HTTPError) as caught:
            served.get("/fail")
        assert caught.value.status == 500
        assert "LookupError: of the author" in caught.value.read().decode()
    assert (tmp_path / ".durable").is_dir()
    with serving(tmp_path, "wrangler.toml", "--env", "stage", "--path", "elsewhere") as served:
        assert served.get() == "hello 1"
    assert (tmp_path / "elsewhere").is_dir()


def test_a_program_of_web_sockets_is_served(tmp_path: Path) -> None:
    client = pytest.importorskip("websockets.sync.client")
    with serving(tmp_path, str(PROGRAMS / "chat" / "wrangler.toml"), "--path", "s") as served:
        assert "Chat" in served.get()
        with client.connect(served.url.replace("http", "ws") + "/garden?ada") as ws:
            assert json.loads(ws.recv(WAIT_S_MAX)) == {"welcome": "ada", "history": []}
            ws.send("who")
            assert json.loads(ws.recv(WAIT_S_MAX)) == ["ada"]


def test_new_code_is_used_without_a_restart(tmp_path: Path) -> None:
    """What is stored is kept. Code that cannot be used leaves the old one."""
    pytest.importorskip("watchfiles")
    write(tmp_path, COUNTER.format(step=1, greeting="hello"), CONFIG)
    with serving(tmp_path, "--reload") as served:
        assert served.get() == "hello 1"
        write(tmp_path, COUNTER.format(step=10, greeting="salut"), CONFIG)
        served.wait_said("worker.py changed; the new code is in use")
        assert served.get() == "salut 11"
        write(tmp_path, "import nothing_of_the_kind\n", CONFIG)
        served.wait_said("worker.py changed and cannot be used; the code from before stays")
        assert served.get() == "salut 21"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "there is none of wrangler.jsonc, wrangler.json, wrangler.toml"),
        (["nowhere.toml"], 1, "nowhere.toml: No such file"),
        (["broken.toml"], 1, "durable: broken.toml: it is not valid TOML"),
        (["mainless.toml"], 1, "mainless.toml, main: it is missing"),
        (["it.toml", "--env", "prod"], 1, "there is no environment 'prod'"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    write(tmp_path, COUNTER.format(step=1, greeting="hello"), CONFIG, "it.toml")
    (tmp_path / "broken.toml").write_text("= 5")
    (tmp_path / "mainless.toml").write_text('name = "it"')
    done = subprocess.run(
        [sys.executable, "-m", "durable", "dev", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_application_of_a_worker(tmp_path: Path) -> None:
    """`durable.workers.app` is for any ASGI server, and for the clients of tests."""
    starlette = pytest.importorskip("starlette.testclient")
    from durable.workers import app

    file = write(tmp_path, COUNTER.format(step=1, greeting="hello"), CONFIG)
    with starlette.TestClient(app(file)) as client:
        assert [client.get("/").text, client.get("/").text] == ["hello 1", "hello 2"]
    with starlette.TestClient(app(file, environment="stage")) as client:
        assert client.get("/").text == "hello 1"
