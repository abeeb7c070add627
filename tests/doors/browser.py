"""A real browser: Chromium without a window, driven by its own protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define, field
from websockets.sync.client import ClientConnection, connect

WAIT_S_MAX = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


@define(eq=False)
class Page:
    """One tab."""

    _socket: ClientConnection
    _numbers: Iterator[int] = field(factory=itertools.count, init=False)

    def command(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(WAIT_S_MAX))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Return when the expression is true."""
        end_s = time.monotonic() + WAIT_S_MAX
        while not self.evaluate(script):
            assert time.monotonic() < end_s, f"{script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.02)

    def type_line(self, text: str) -> None:
        """Type into what has the focus, and press Enter."""
        self.command("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r",
                windowsVirtualKeyCode=13,
            )

    def screenshot(self) -> bytes:
        shot = self.command("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])


@define(eq=False)
class Browser:
    url: str
    _tabs: ExitStack

    def open(self, url: str) -> Page:
        target = httpx.put(f"{self.url}/json/new", timeout=WAIT_S_MAX).json()
        opened = connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None)
        page = Page(self._tabs.enter_context(opened))
        page.command("Page.navigate", url=url)
        return page


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in *folder*; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)} is installed")
    process = subprocess.Popen(
        [
            found,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",
            "--window-size=900,560",
            f"--user-data-dir={folder}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(folder / "DevToolsActivePort", process)
        with ExitStack() as tabs:
            yield Browser(f"http://127.0.0.1:{port}", tabs)
    finally:
        process.kill()
        process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that the browser has picked; it writes it into a file."""
    end_s = time.monotonic() + WAIT_S_MAX
    while not (file.exists() and file.read_text().count("\n")):
        if process.poll() is not None:
            pytest.skip(f"the browser does not run here; it ended with {process.returncode}")
        assert time.monotonic() < end_s, "the browser did not start"
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
