"""Type checkers accept what the documentation shows, with the plugin or without it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.typing.checkers import errors, mypy, pyright

from .pages import ROOT, blocks, is_there, page_paths

# What a page leaves out where it would distract: the types of fixtures, and of what `env` has.
LENIENT = """
strict = True
disallow_untyped_defs = False
disallow_incomplete_defs = False
warn_return_any = False
"""
STRICT = [
    ROOT / "README.md",
    ROOT / "docs/index.md",
    ROOT / "docs/guides/values.md",
    ROOT / "docs/guides/types.md",
]


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


def test_the_python_of_the_pages_is_well_typed(tmp_path: Path) -> None:
    """mypy, with the plugin for stubs, accepts every page."""
    files = written(page_paths(), tmp_path)

    assert not errors(mypy(*files, folder=tmp_path, plugin=True, options=LENIENT))


def test_the_python_of_the_pages_needs_no_plugin(tmp_path: Path) -> None:
    """Nor does it without."""
    files = written(page_paths(), tmp_path)

    assert not errors(mypy(*files, folder=tmp_path, options=LENIENT))


def test_what_newcomers_read_first_is_strict(tmp_path: Path) -> None:
    """The README, the first page, and the guides to values and types, under `mypy --strict`."""
    assert not errors(mypy(*written(STRICT, tmp_path), folder=tmp_path))


def test_what_newcomers_read_first_is_strict_for_pyright(tmp_path: Path) -> None:
    """The same pages, under pyright's strict mode."""
    assert not errors(pyright(*written(STRICT, tmp_path), folder=tmp_path))
