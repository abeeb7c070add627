"""What the tests of Workers share: a Worker of a few lines, opened in a folder of its own."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define

import durable
from durable.workers import Worker, open_worker

PROGRAMS = Path(__file__).parent / "programs"
URL = "https://example.com"

CONFIG = """
name = "it"
main = "worker.py"
compatibility_date = "2026-01-01"

[[durable_objects.bindings]]
name = "THINGS"
class_name = "Thing"
"""


@define(eq=False)
class Opened:
    """A Worker that is open."""

    runtime: durable.Runtime
    opener: open_worker

    @property
    def worker(self) -> Worker:
        return self.opener.worker

    async def get(self, path: str = "/", **options: Any) -> durable.Response:
        return await self.worker.respond(durable.Request(f"{URL}{path}", **options))

    async def text(self, path: str = "/", **options: Any) -> str:
        return await (await self.get(path, **options)).text()

    @property
    def thing(self) -> Any:
        """The object `a` of the class Thing, by a stub of the library's."""
        return self.runtime.env.THINGS.get_by_name("a")


Run = Callable[..., AbstractAsyncContextManager[Opened]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Opens a Worker of this code and configuration, or a program of this name."""

    @asynccontextmanager
    async def run(
        code: str = "", config: str = CONFIG, *, program: str | None = None, **options: Any
    ) -> AsyncIterator[Opened]:
        if program is not None:
            folder = tmp_path / program
            if not folder.exists():
                shutil.copytree(PROGRAMS / program, folder)
            file = next(folder.glob("wrangler.*"))
        else:
            file = write(tmp_path, code, config)
        opener = open_worker(file, **options)
        async with opener as runtime:
            yield Opened(runtime, opener)

    return run


def write(folder: Path, code: str, config: str = CONFIG, name: str = "wrangler.toml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "worker.py").write_text(textwrap.dedent(code), encoding="utf-8")
    (folder / name).write_text(config, encoding="utf-8")
    return folder / name
