"""A type checker finds nothing wrong with what the documentation shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT, blocks, is_there, page_paths

CONFIG = """
[mypy]
plugins = durable.mypy_plugin
check_untyped_defs = True
"""


def python_of(path: Path) -> str:
    """The `python` blocks of a page, each on the lines that it has there."""
    lines: list[str] = []
    for block in blocks(path):
        if block.language == "python" and block.not_run is None:
            if block.needs is not None and not is_there(block.needs):
                break
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def test_the_python_of_the_pages_is_well_typed(tmp_path: Path) -> None:
    """mypy, with the plugin for stubs, accepts every page."""
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG, encoding="utf-8")
    files = []
    for path in page_paths():
        name = re.sub(r"\W", "_", path.relative_to(ROOT).with_suffix("").as_posix())
        files.append(tmp_path / f"page_{name}.py")
        files[-1].write_text(python_of(path), encoding="utf-8")
    options = ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--follow-imports=silent", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout.replace(str(tmp_path), "")


@pytest.fixture
def first_example(tmp_path: Path) -> Path:
    """The program that a reader of the README copies first, in a project without settings."""
    path = tmp_path / "first.py"
    first = next(each for each in blocks(ROOT / "README.md") if each.language == "python")
    path.write_text(first.text, encoding="utf-8")
    return path


def check(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_first_example_passes_mypy_strict_without_a_plugin(first_example: Path) -> None:
    """So does what is copied from it."""
    (first_example.parent / "mypy.ini").write_text("[mypy]\n", encoding="utf-8")
    done = check("mypy", "--strict", first_example.name, folder=first_example.parent)

    assert done.returncode == 0, done.stdout


def test_the_first_example_passes_pyright_strict(first_example: Path) -> None:
    """So it does in editors."""
    folder = first_example.parent
    if "pyright" not in check("pyright", "--version", folder=folder).stdout:
        pytest.skip("pyright found no node")
    settings = '{"typeCheckingMode": "strict", "include": ["first.py"]}'
    (folder / "pyrightconfig.json").write_text(settings, encoding="utf-8")
    done = check("pyright", "--pythonpath", sys.executable, folder=folder)

    assert done.returncode == 0, done.stdout
