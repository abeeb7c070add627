"""The texts that the page on troubleshooting explains are texts of the library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from .pages import ROOT

PAGE = ROOT / "docs/guides/troubleshooting.md"


def explained() -> list[str]:
    """The first column of the tables."""
    return re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def texts() -> Iterator[str]:
    """The strings of the code, with … for what is put into them."""
    for path in (ROOT / "durable").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )


@pytest.fixture(scope="module")
def known() -> str:
    return "\n".join(texts())


@pytest.mark.parametrize("text", explained())
def test_a_text_that_is_explained_is_one_of_the_library(text: str, known: str) -> None:
    """Word for word, but for what differs."""
    assert text in known


def test_the_page_explains_texts() -> None:
    assert len(explained()) >= 20
