"""`durable serve --reload`: new code is used while the store stays open and the server goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("uvicorn")
pytest.importorskip("watchfiles")

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 30.0

SHOP = """
import durable

class Counter(durable.DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.in_memory = 0

    async def count(self):
        self.in_memory += 1
        value = await self.ctx.storage.get("value", 0) + {step}
        self.ctx.storage.put("value", value)
        return f"{{value}} {{self.in_memory}}"

    async def fetch(self, request):
        if request.headers.get("upgrade") != "websocket":
            return durable.Response(await self.count())
        client, server = durable.WebSocketPair()
        self.ctx.accept_websocket(server)
        return durable.Response(None, status=101, websocket=client)
"""

WEB = """
import os
import durable
from durable.asgi import app as make
from shop import Counter

async def fetch(request, env):
    if request.url.path == "/pid":
        return durable.Response(str(os.getpid()))
    counter = env.COUNTERS.get_by_name("a")
    if request.headers.get("upgrade") == "websocket":
        return await counter.fetch(request)
    return durable.Response("{greeting} " + await counter.count())

app = make(fetch, "store", bindings={{"COUNTERS": Counter}})
"""


@define(eq=False)
class Served:
    """A server with --reload, in a process of its own."""

    folder: Path
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
        """The first line with *text* that has not been asked for."""

        def find() -> list[int]:
            return [number for number, line in enumerate(self.said) if text in line]

        with self._heard:
            found = self._heard.wait_for(find, WAIT_S_MAX)
            assert found, f"{text!r} was not said, but:\n{''.join(self.said)}"
            line, self.said = self.said[found[0]], self.said[found[0] + 1 :]
            return line

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")


def write_shop(folder: Path) -> None:
    (folder / "shop.py").write_text(SHOP.format(step=1), encoding="utf-8")
    (folder / "web.py").write_text(WEB.format(greeting="hello"), encoding="utf-8")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    write_shop(tmp_path)
    with serving(tmp_path, "web:app") as served:
        yield served


@contextmanager
def serving(folder: Path, app: str) -> Iterator[Served]:
    """Serve *app*, a `module:name` of *folder*; at the end it must stop at a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "serve", app, "--port", "0", "--reload"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(folder, process)
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


def answer(address: str, path: str = "/") -> str:
    with urllib.request.urlopen(address + path, timeout=WAIT_S_MAX) as response:
        return str(response.read().decode())


def test_new_code_is_used_without_a_restart(served: Served) -> None:
    """The class and the entry function; storage is kept, memory is not, the process is the same."""
    address = served.wait_said("running on").split("running on ")[1].split()[0]
    pid = answer(address, "/pid")
    assert [answer(address), answer(address)] == ["hello 1 1", "hello 2 2"]

    served.write("shop.py", SHOP.format(step=5))
    served.wait_said("shop.py changed; the new code is in use")
    assert answer(address) == "hello 7 1"

    served.write("web.py", WEB.format(greeting="salut"))
    served.wait_said("web.py changed; the new code is in use")
    assert answer(address) == "salut 12 1"
    assert answer(address, "/pid") == pid


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("shop.py", "class Counter(", "SyntaxError"),
        ("shop.py", "import sys\nsys.exit(3)", "SystemExit"),
        ("web.py", "from shop import Counter", "AttributeError"),
        ("web.py", "app = print", "web.app, which has the store, is gone"),
    ],
)
def test_code_that_cannot_be_used_leaves_the_old(
    served: Served, name: str, text: str, why: str
) -> None:
    """It is said why; objects go on as they were, and the next change is tried again."""
    address = served.wait_said("running on").split("running on ")[1].split()[0]
    assert answer(address) == "hello 1 1"
    before = (served.folder / name).read_text(encoding="utf-8")

    served.write(name, text)
    served.wait_said(f"{name} changed and cannot be used; the code from before stays")
    served.wait_said(why)
    assert answer(address) == "hello 2 2"

    served.write(name, before)
    served.wait_said(f"{name} changed; the new code is in use")
    assert answer(address) == "hello 3 1"


MOUNTED = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
import web

async def version(request):
    return PlainTextResponse("{version}")

app = Starlette(
    routes=[Route("/version", version), Mount("/", web.app)], lifespan=web.app.lifespan
)
"""


def test_an_application_that_is_mounted_is_reloaded(tmp_path: Path) -> None:
    """The framework's routes are the new ones, and its objects are in the store that was open."""
    pytest.importorskip("starlette")
    write_shop(tmp_path)
    (tmp_path / "mounted.py").write_text(MOUNTED.format(version=1), encoding="utf-8")
    with serving(tmp_path, "mounted:app") as mounted:
        address = mounted.wait_said("running on").split("running on ")[1].split()[0]
        assert (answer(address, "/version"), answer(address)) == ("1", "hello 1 1")

        mounted.write("mounted.py", MOUNTED.format(version=2))
        mounted.wait_said("mounted.py changed; the new code is in use")
        assert (answer(address, "/version"), answer(address)) == ("2", "hello 2 1")


def test_sockets_are_closed_by_new_code(served: Served) -> None:
    """Those that an object has accepted, since what they are bound to is gone."""
    client = pytest.importorskip("websockets.sync.client")
    address = served.wait_said("running on").split("running on ")[1].split()[0]
    with client.connect(address.replace("http", "ws") + "/") as socket:
        served.write("shop.py", SHOP.format(step=5))
        served.wait_said("the new code is in use")
        with pytest.raises(pytest.importorskip("websockets").ConnectionClosed):
            socket.recv(timeout=WAIT_S_MAX)


def test_an_application_without_a_store_is_refused(tmp_path: Path) -> None:
    """There would be nothing to keep open."""
    (tmp_path / "plain.py").write_text("async def app(scope, receive, send): ...")
    done = subprocess.run(
        [sys.executable, "-m", "durable", "serve", "plain:app", "--port", "0", "--reload"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=WAIT_S_MAX, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "plain:app has none" in done.stderr
