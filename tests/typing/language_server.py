"""A client of pyright's language server, as far as a completion needs one."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from attrs import define, field

from .checkers import ROOT

ANSWER_S_MAX = 120.0  # the first answer comes when the library has been read
START = "from pyright.langserver import entrypoint; entrypoint()"


@define(eq=False)
class Client:
    """Asks one question at a time."""

    process: subprocess.Popen[bytes]
    folder: Path
    _messages: queue.Queue[dict[str, Any] | None] = field(factory=queue.Queue, init=False)
    _last: int = field(default=0, init=False)

    _reader: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def begin(self) -> None:
        """Say which project is open."""
        root = {"uri": self.folder.as_uri(), "name": "project"}
        self.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": root["uri"],
                "workspaceFolders": [root],
                "capabilities": {
                    "workspace": {"configuration": True, "workspaceFolders": True},
                    "textDocument": {
                        "completion": {"completionItem": {"documentationFormat": ["markdown"]}}
                    },
                },
            },
        )
        self._tell("initialized", {})

    def completions(self, file: Path, text: str) -> dict[str, str]:
        """What is offered at the end of the text of *file*: names, and what is said of each."""
        uri = file.as_uri()
        lines = text.splitlines()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        where = {
            "textDocument": {"uri": uri},
            "position": {"line": len(lines) - 1, "character": len(lines[-1])},
        }
        found = self.ask("textDocument/completion", where)
        offered = {}
        for item in found["items"]:
            if not item["label"].startswith("_"):
                resolved = self.ask("completionItem/resolve", item)
                offered[item["label"]] = resolved.get("documentation", {}).get("value", "")
        return offered

    def close(self) -> None:
        """The process has ended."""
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def ask(self, method: str, params: Any) -> Any:
        self._last += 1
        number = self._last
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._messages.get(timeout=ANSWER_S_MAX)
            assert message is not None, "the language server has ended"
            if "method" in message:
                if "id" in message:
                    self._answer(message)
            elif message["id"] == number:
                assert "error" not in message, message
                return message["result"]

    def _answer(self, asked: dict[str, Any]) -> None:
        """What the server wants to know of its client."""
        result: Any = None
        if asked["method"] == "workspace/configuration":
            known = {
                "python": {"pythonPath": sys.executable},
                "python.analysis": {"extraPaths": [str(ROOT), str(self.folder)]},
            }
            result = [known.get(item.get("section"), {}) for item in asked["params"]["items"]]
        self._send({"id": asked["id"], "result": result})

    def _tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while (message := _message(self.process.stdout)) is not None:
            self._messages.put(message)
        self._messages.put(None)


def _message(stream: IO[bytes]) -> dict[str, Any] | None:
    size = 0
    while (line := stream.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    if not size:
        return None
    message: dict[str, Any] = json.loads(stream.read(size))
    return message


@contextmanager
def language_server(folder: Path) -> Iterator[Client]:
    """A language server for the project in *folder*; it has ended at the end of the block."""
    # In a session of its own: what is started is a program of Python's that starts node's.
    process = subprocess.Popen(
        [sys.executable, "-c", START, "--stdio"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    client = Client(process, folder)
    try:
        client.begin()
        yield client
        client.ask("shutdown", None)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        client.close()
