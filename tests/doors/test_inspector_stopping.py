"""A server that serves the inspector stops at once, though a page is open."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .entry import TOKEN
from .servers import START_S_MAX, serving

STOP_S_MAX = 8.0


@contextmanager
def opened(address: str, question: str, token: str) -> Iterator[httpx.Response]:
    """A stream of the page. The command prints its address before it listens there."""
    headers = {"authorization": f"Bearer {token}"}
    transport = httpx.HTTPTransport(retries=8)
    with (
        httpx.Client(transport=transport, headers=headers, timeout=START_S_MAX) as client,
        client.stream("GET", f"{address}api/{question}") as response,
    ):
        yield response


@pytest.mark.parametrize("question", ["reports", "events"])
def test_a_program_with_the_inspector_mounted_stops(question: str, tmp_path: Path) -> None:
    """The streams of its pages end, so that the server does not wait for them."""
    with (
        serving("uvicorn", "entry:inspected", tmp_path / "served") as server,
        opened(f"{server.url}/inspect/", question, TOKEN) as response,
    ):
        chunks = response.iter_bytes()
        assert next(chunks).startswith(b"data: ")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for _ in chunks:
            pass
        server.process.wait(timeout=START_S_MAX)
    assert time.monotonic() - began < STOP_S_MAX


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stops(how: signal.Signals, tmp_path: Path) -> None:
    """By one Ctrl-C."""
    with serving("uvicorn", "entry:alone", tmp_path / "served") as server:
        store = str(tmp_path / "served" / "store")
        server.stop()
    program = "import durable, sys, time; from durable.blocking import open as o\n"
    program += "with o(sys.argv[1], operate=True): print('open', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program, store], stdin=pipe, stdout=pipe
    ) as watched:
        assert watched.stdout is not None
        assert watched.stdout.readline() == b"open\n"
        command = [sys.executable, "-m", "durable", "inspect", store, "--no-browser"]
        with subprocess.Popen(command, stdout=pipe, text=True) as inspecting:
            try:
                assert inspecting.stdout is not None
                address, _, token = (
                    inspecting.stdout.readline().split(": ", 1)[1].strip().partition("?token=")
                )
                with opened(address, "reports", token) as response:
                    assert next(response.iter_bytes()).startswith(b"data: ")
                    began = time.monotonic()
                    inspecting.send_signal(how)
                    inspecting.wait(timeout=START_S_MAX)
            finally:
                inspecting.kill()
        watched.communicate()
    assert time.monotonic() - began < STOP_S_MAX
