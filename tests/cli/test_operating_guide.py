"""The commands that the guide to operating shows are run, beside a program where they need one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

pytest.importorskip("click")
pytest.importorskip("rich")

PAGE = ROOT / "docs" / "guides" / "operating.md"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

PROGRAM = """
import anyio, durable

class Counter(durable.DurableObject):
    async def increment(self, by=1):
        self.ctx.storage.put("value", await self.ctx.storage.get("value", 0) + by)

async def main():
    async with durable.open("state", bindings={"C": Counter}) as runtime:
        print("ready", flush=True)
        while True:
            await runtime.env.C.get_by_name("site").increment()
            await anyio.sleep(0.02)

anyio.run(main)
"""


@contextmanager
def program(folder: Path) -> Iterator[None]:
    """A program that uses the store of the page, and may be watched."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**ENVIRONMENT, "DURABLE_OPERATE": "1"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(command: str, folder: Path) -> None:
    words = shlex.split(command)
    assert words[0] == "durable"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    """In order, in one folder, each with status 0."""
    python = [block.text for block in blocks(PAGE) if block.language == "python"]
    subprocess.run(
        [sys.executable, "-c", python[0]], cwd=tmp_path, env=ENVIRONMENT, check=True, timeout=60
    )
    commands = [
        line for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()
    ]
    assert len(commands) > 15
    watching = [line for line in commands if line.split()[1] in {"tail", "top", "call"}]
    for command in commands:
        if command not in watching:
            run(command, tmp_path)
    with program(tmp_path):
        for command in watching:
            run(command, tmp_path)
