"""What docs/versions.md and SECURITY.md say of versions and formats is so."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib

import pytest

import durable

from .pages import ROOT

VERSIONS = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = sorted((ROOT / "durable").rglob("*.py"))
# Modules that make code, or objects of any class, of bytes.
LOADERS = frozenset({"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"})


def classified() -> list[str]:
    """The Pythons that the classifiers name."""
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    return [found[1] for each in PROJECT["classifiers"] if (found := re.fullmatch(pattern, each))]


def test_the_pythons_of_the_page_are_those_of_the_package() -> None:
    """And the lowest is the one that pip asks for."""
    row = next(line for line in VERSIONS.splitlines() if line.startswith("| CPython |"))

    assert re.findall(r"3\.\d+", row.split("|")[2]) == classified()
    assert PROJECT["requires-python"] == f">={classified()[0]}"


def test_ci_runs_every_python_of_the_classifiers() -> None:
    """It reads them where they stand."""
    for name in ("noxfile.py", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")

        assert "Programming Language :: Python :: " in text
        assert not re.findall(r"\b3\.1\d\b", text), f"{name} names versions of its own"


@pytest.mark.parametrize("page", ["versions.md", "index.md"])
def test_a_page_that_names_a_version_of_python_names_the_lowest(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert classified()[0] in text


def test_the_site_tells_its_version() -> None:
    """At the foot of each page."""
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]

    assert durable.__version__ in site["copyright"]


def test_nothing_of_a_store_is_unpickled() -> None:
    """No file of the library imports what would do that."""
    found = set()
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add((node.module or "").partition(".")[0])

    assert not found & LOADERS


def test_the_options_of_open_are_all_listed() -> None:
    """In the guide to configuration, and no other."""
    page = (ROOT / "docs/guides/configuration.md").read_text(encoding="utf-8")
    table = page.partition("## The options of `durable.open`")[2]

    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(inspect.signature(durable.open).parameters)
