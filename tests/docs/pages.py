"""Pages of Markdown as programs: what the tests of the documentation read and run.

A page is a list of fenced blocks, in order. Conventions, the same in README.md and docs/:

- The `python` blocks of a page run in order and share one namespace, in an empty folder.
- `ipython` blocks are cells of a notebook among them: they may `await` at their top level, all on
  one asyncio loop, which goes on from one to the next.
- A `text` block right after one of `python`, `ipython` or `sh` is what that printed, word for word.
- `async def test_...` functions that a page defines are run at its end, on asyncio and on Trio;
  a parameter `tmp_path` is an empty folder.
- `<!-- needs: NAME -->` in the line before a block: the block, and the rest of the page after it,
  is left out where the module, or the name in one, is not installed.
- `<!-- not run: REASON -->` before a block: it is compiled only.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve, frozen

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\w*)\s*$")
_NOTE = re.compile(r"^<!-- (needs|not run): (.*) -->$")


@frozen
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int  # of its first line, from 1
    needs: str | None = None
    not_run: str | None = None
    prints: str | None = None  # the text of the block that follows it at once


def page_paths() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, each with what it is said to print."""
    found: list[Block] = []
    for block, follows in _fenced(path.read_text(encoding="utf-8").splitlines()):
        if block.language == "text" and follows:
            found[-1] = evolve(found[-1], prints=block.text)
        found.append(block)
    return found


def _fenced(lines: list[str]) -> Iterator[tuple[Block, bool]]:
    """Blocks, and whether only blank lines part each from the one before."""
    notes: dict[str, str] = {}
    follows = False
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        index += 1
        if note := _NOTE.match(line):
            notes[note[1]] = note[2]
        elif fence := _FENCE.match(line):
            end = lines.index("```", index)
            text = "\n".join(lines[index:end]) + "\n"
            yield (
                Block(fence[1], text, index + 1, notes.get("needs"), notes.get("not run")),
                follows,
            )
            notes, follows = {}, True
            index = end + 1
        elif line:
            notes, follows = {}, False


def is_there(name: str) -> bool:
    """Whether a module, or a name in one, can be had here."""
    try:
        importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        try:
            return bool(module) and hasattr(importlib.import_module(module), attribute)
        except ImportError:
            return False
    return True
