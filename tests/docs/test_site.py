"""The site of the documentation has all of its pages."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from .pages import ROOT

DOCS = ROOT / "docs"


def pages_of(navigation: list[Any]) -> Iterator[str]:
    """The pages that a navigation leads to, at whatever depth."""
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
            continue
        for target in entry.values():
            yield from pages_of([target] if isinstance(target, str) else target)


def test_every_page_is_in_the_navigation() -> None:
    """What docs/ has as Markdown is in the navigation, once, and nothing else is."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    written = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]

    assert sorted(pages_of(project["nav"])) == sorted(written), "mend nav in zensical.toml"


def test_readme_leads_to_every_guide() -> None:
    """README.md links to each page of docs/, so that none is found by chance only."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")} - {"docs/index.md"}

    assert not [page for page in pages if f"]({page}" not in text]
