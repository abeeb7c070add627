"""Type checkers accept what the documentation shows, in their strict modes and with no plugin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.typing.checkers import errors, mypy, pyright

from .pages import ROOT, blocks, is_there, page_paths


def python_of(path: Path) -> str:
    """The `python` blocks of a page, each on the lines that it has there."""
    lines: list[str] = []
    for block in blocks(path):
        if block.language == "python" and block.not_run is None:
            if block.needs is not None and not is_there(block.needs):
                break
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def written(pages: Iterable[Path], folder: Path) -> list[Path]:
    """The pages as programs."""
    files = []
    for path in pages:
        name = re.sub(r"\W", "_", path.relative_to(ROOT).with_suffix("").as_posix())
        files.append(folder / f"page_{name}.py")
        files[-1].write_text(python_of(path), encoding="utf-8")
    return files


def examples() -> list[Path]:
    return sorted((ROOT / "docs" / "examples").rglob("*.py"))


def test_pages_and_examples_are_right_for_mypy(tmp_path: Path) -> None:
    """Every page, and every example, under `mypy --strict`."""
    files = [*written(page_paths(), tmp_path), *examples()]

    assert len(files) > 20
    assert not errors(mypy(*files, folder=tmp_path))


def test_pages_and_examples_are_right_for_pyright(tmp_path: Path) -> None:
    """The same files, under pyright's strict mode."""
    files = [*written(page_paths(), tmp_path), *examples()]

    assert not errors(pyright(*files, folder=tmp_path))
