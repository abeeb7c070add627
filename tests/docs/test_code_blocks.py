"""What the documentation shows is run, and prints what it is said to print.

`pages.py` says by which conventions.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import anyio
import pytest

from .pages import ROOT, Block, blocks, is_there, page_paths

PAGES = page_paths()
BACKENDS = ("asyncio", "trio")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_the_python_of_a_page_runs(
    path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block runs after those before it, and prints what the `text` block after it shows."""
    page = types.ModuleType("page_of_docs")
    # Classes look for the module that they were defined in.
    monkeypatch.setitem(sys.modules, page.__name__, page)
    with asyncio.Runner() as cells:
        for block in blocks(path):
            if block.language not in {"python", "ipython"}:
                continue
            is_cell = block.language == "ipython"
            code = compile(
                "\n" * (block.line - 1) + block.text,
                page_id(path),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_cell else 0,
                dont_inherit=True,
            )
            if block.not_run is not None:
                continue
            if block.needs is not None and not is_there(block.needs):
                break
            if is_cell:
                cells.run(run_cell(code, page.__dict__))
            else:
                exec(code, page.__dict__)
            printed = capsys.readouterr().out
            if block.prints is not None:
                assert printed == block.prints, f"{page_id(path)}:{block.line}"
    for name, test in list(vars(page).items()):
        if name.startswith("test_") and inspect.iscoroutinefunction(test):
            for backend in BACKENDS:
                run_test(test, folder / f"{name}-{backend}", backend)


async def run_cell(code: types.CodeType, names: dict[str, Any]) -> None:
    """As IPython does it: the loop runs, whether or not the cell awaits anything."""
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


def run_test(test: Any, folder: Path, backend: str) -> None:
    folder.mkdir()

    async def main() -> None:
        wants_folder = "tmp_path" in inspect.signature(test).parameters
        await (test(tmp_path=folder) if wants_folder else test())

    anyio.run(main, backend=backend)


def demo_blocks() -> list[Block]:
    return [
        block
        for block in blocks(ROOT / "README.md")
        if block.language == "sh" and "durable demo" in block.text
    ]


def test_the_demo_command_of_the_readme_runs(folder: Path) -> None:
    """The commands that the README gives for a fresh machine do the main job, as far as they can be
    run without a network: those that make the environment are left out."""
    (block,) = demo_blocks()
    commands = [
        part.strip()
        for line in block.text.splitlines()
        for part in line.split("&&")
        if "durable demo" in part
    ]
    assert commands
    for command in commands:
        words = command.split()
        assert words[0].endswith("python")
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "answered" in done.stdout
