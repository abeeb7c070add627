"""No circle of imports between files, those made for annotations alone included.

A circle under `TYPE_CHECKING` runs, but says that two files know each other's inside, so that
neither can be read, tested or replaced alone. The floors are held by `test_floors`; this looks at
files.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "durable"

Graph = Mapping[str, set[str]]


def imports_of(
    module: str, tree: ast.Module, modules: Collection[str], *, is_package: bool
) -> set[str]:
    """Which of *modules* are imported by *module*: a module taken from its package is that module,
    and not the package."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in modules else base)
    return {name for name in found if name in modules and name != module}


def graph_of(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> Graph:
    """Which of *sources*, by module name, import which others of them."""
    return {
        module: imports_of(module, ast.parse(text), sources, is_package=module in packages)
        for module, text in sources.items()
    }


def circle_in(graph: Graph) -> list[str] | None:
    """The modules of one circle, the first of them again at the end; None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return None


def _package() -> tuple[dict[str, str], frozenset[str]]:
    sources, packages = {}, set()
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] == "__init__":
            packages.add(module)
        sources[module] = path.read_text("utf-8")
    return sources, frozenset(packages)


def test_no_file_imports_what_imports_it() -> None:
    """Files can be put in an order in which each one needs only those before it."""
    circle = circle_in(graph_of(*_package()))

    assert circle is None, (
        f"{' -> '.join(reversed(circle))}: let the lower one say what it needs (a Protocol, a "
        f"callable handed down), or move what both share to a file of its own"
    )


def test_a_circle_for_annotations_alone_is_noticed() -> None:
    """An import under TYPE_CHECKING, within a function or by a relative name is one like others."""
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B"
    graph = graph_of({"p.a": hidden, "p.b": "def f():\n    import p.a", "p.c": "import p.a"})

    assert set(circle_in(graph) or ()) == {"p.a", "p.b"}


def test_a_module_taken_from_its_package_is_an_import_of_the_module() -> None:
    """`from p import a` needs the file of `a`, not only that of the package."""
    graph = graph_of(
        {"p": "", "p.a": "from p import b", "p.b": "from . import a"}, frozenset({"p"})
    )

    assert set(circle_in(graph) or ()) == {"p.a", "p.b"}


def test_files_in_an_order_make_no_circle() -> None:
    """Nothing is found where there is nothing."""
    assert circle_in(graph_of({"p.a": "", "p.b": "from .a import A", "p.c": "import p.b"})) is None
