"""The tutorial, done as it says: all blocks in one file, and that file run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT, Block, blocks


@pytest.fixture
def page() -> list[Block]:
    return [each for each in blocks(ROOT / "docs/tutorial.md") if each.language == "python"]


@pytest.fixture
def program(page: list[Block], tmp_path: Path) -> Path:
    """Every block below the one before it."""
    path = tmp_path / "tutorial.py"
    path.write_text("\n\n".join(block.text for block in page), encoding="utf-8")
    return path


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_tutorial_as_one_file_prints_what_it_says(page: list[Block], program: Path) -> None:
    """What the blocks print one after the other, and nothing else."""
    done = run(program.name, folder=program.parent)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(block.prints or "" for block in page)
    assert "Traceback" not in done.stderr


def test_the_tests_of_the_tutorial_pass_in_that_file(program: Path) -> None:
    """pytest runs them, on every backend that is there."""
    options = ("-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio")
    done = run("-m", "pytest", *options, program.name, folder=program.parent)

    assert done.returncode == 0, done.stdout
