"""The house rules that a machine can check, each with a test of its own.

A rule is a function from one source file to its faults; a fault says where it is and what to do.
Every rule is also shown a file that breaks it, so that it cannot fall silent unnoticed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "durable"

# Rooms that each hold an engine or two, and what may name them.
ENGINES = frozenset({"_lmdb", "_memory", "_postgres"})
ENGINE_CHOOSER = "durable/_runtime/engines.py"
FILES_OF_STORES = "durable/_runtime/store_files.py"
# Of the doors: a simulation of power failures.
ENGINE_DOORS = ("durable/testing/simulation/",)

_UP_TO_STORAGE = frozenset({"_storage", "_gates", "_engine", "_loop", "_model"})
_UP_TO_BORDER = _UP_TO_STORAGE | {"_object", "_border"}

FLOORS: dict[str, frozenset[str]] = {
    "_model": frozenset(),
    "_cpython": frozenset(),
    "_loop": frozenset({"_model", "_cpython"}),
    "_control": frozenset({"_model"}),
    "_engine": frozenset({"_model"}),
    "_lmdb": frozenset({"_engine", "_control", "_model"}),
    "_memory": frozenset({"_engine", "_model"}),
    "_postgres": frozenset({"_engine", "_model"}),
    "_gates": frozenset({"_model", "_cpython", "_loop"}),
    "_storage": _UP_TO_STORAGE - {"_storage"},
    "_object": _UP_TO_STORAGE,
    "_border": _UP_TO_STORAGE | {"_object"},
    "_wire": _UP_TO_BORDER,
    "_shards": frozenset({"_loop", "_model"}),
    "_watch": _UP_TO_BORDER,
    "_deploy": frozenset({"_border", "_engine", "_model"}),
    "_runtime": _UP_TO_BORDER | {"_wire", "_shards", "_watch", "_deploy", "_control"} | ENGINES,
}

LMDB_OWNERS = ("durable/_lmdb/handle.py", "durable/_lmdb/lmdb_files.py")
CLOCK_OWNER = "durable/_model/clock.py"
LINES_MAX = 400

FORBIDDEN_WORDS = frozenset(
    {"manager", "managers", "helper", "helpers", "util", "utils"}
    | {"context", "contexts", "data", "info", "infos"}
)
ALLOWED_NAMES = frozenset({"AlarmInfo"}) | {
    # Cloudflare's, and JavaScript's.
    *("DurableObjectContext", "ExecutionContext", "FormData", "formData", "form_data"),
    *("DataView", "info"),
}

TIME_READS = frozenset(
    f"{name}{suffix}"
    for name in ("time", "monotonic", "perf_counter", "process_time")
    for suffix in ("", "_ns")
) | {"localtime", "gmtime"}
DATETIME_READS = frozenset({"now", "utcnow", "today"})

# Put together here, so that this file does not break its own rule.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
        ("anaconda", "org"),
    )
)
MACHINE_PATHS = re.compile(
    "|".join(re.escape(host) for host in REGISTRY_HOSTS)
    + r"|(?<![\w.~$}/:-])/(?:home|Users|root)/\w"
    + r"|(?<!\w)[A-Za-z]:\\+Users\\+\w"
)


@frozen
class Source:
    """One Python file of the package, as the rules see it."""

    path: str  # from the root of the tree, with slashes
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text, path))

    @property
    def story(self) -> str:
        """The floor, or the door, that the file belongs to: the first name below the package."""
        return self.path.split("/")[1].removesuffix(".py")

    @property
    def is_floor(self) -> bool:
        return self.story.startswith("_") and not self.story.startswith("__")

    def fault(self, line: int, what: str) -> str:
        return f"{self.path}:{line}: {what}"

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every module that is imported anywhere in the file, by its full name."""
        for node in ast.walk(self.tree):
            for module in self.imported_by(node):
                yield node.lineno, module  # type: ignore[attr-defined]

    def imported_by(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if not isinstance(node, ast.ImportFrom):
            return []
        if node.level == 0:
            return [node.module or ""]
        package = self.path.removesuffix(".py").split("/")[: -node.level]
        return [".".join([*package, *([node.module] if node.module else [])])]


Rule = Callable[[Source], Iterator[str]]


def imports_only_floors_below(source: Source) -> Iterator[str]:
    if not source.is_floor:
        return
    if source.story not in FLOORS:
        yield source.fault(1, f"{source.story} is no floor; put it in the table of {__file__}")
        return
    allowed = FLOORS[source.story] | {source.story}
    for line, module in source.imports():
        names = module.split(".")
        if names[0] != PACKAGE or len(names) == 1 or names[1] in allowed:
            continue
        yield source.fault(
            line,
            f"{source.story} may not import {module}; it may import "
            f"{', '.join(sorted(FLOORS[source.story])) or 'nothing of ours'}. Move what is shared "
            f"down, or hand a callable down from above",
        )


def leaves_engines_to_their_chooser(source: Source) -> Iterator[str]:
    if source.path in {ENGINE_CHOOSER, FILES_OF_STORES} or source.path.startswith(ENGINE_DOORS):
        return
    for line, module in source.imports():
        names = module.split(".")
        if names[0] == PACKAGE and len(names) > 1 and names[1] in ENGINES - {source.story}:
            yield source.fault(
                line,
                f"names an engine, {module}; take a durable._engine.engine.Engine, which "
                f"{ENGINE_CHOOSER} opens",
            )


def imports_nothing_from_the_root(source: Source) -> Iterator[str]:
    if not source.is_floor:
        return
    for line, module in source.imports():
        if module == PACKAGE:
            yield source.fault(line, "imports from the package root; name the file that defines it")


def imports_at_the_top(source: Source) -> Iterator[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for function in ast.walk(source.tree):
        if not isinstance(function, functions):
            continue
        for node in _outside_type_checking(function):
            for module in source.imported_by(node):
                if not source.is_floor and _is_third_party(module):
                    continue
                yield source.fault(
                    node.lineno,  # type: ignore[attr-defined]
                    f"imports {module} inside a function; import it at the top, or move the code "
                    f"that makes a circle to another floor",
                )


def leaves_lmdb_to_its_owner(source: Source) -> Iterator[str]:
    if source.path in LMDB_OWNERS:
        return
    for line, module in source.imports():
        if module.split(".")[0] == "lmdb":
            yield source.fault(line, f"imports lmdb; ask {LMDB_OWNERS[0]} instead")


def leaves_psycopg_to_its_room(source: Source) -> Iterator[str]:
    if source.story == "_postgres":
        return
    for line, module in source.imports():
        if module.split(".")[0] == "psycopg":
            yield source.fault(line, "imports psycopg; ask durable/_postgres instead")


def leaves_time_to_the_clock(source: Source) -> Iterator[str]:
    if source.path == CLOCK_OWNER or not source.is_floor:
        return
    time_names = {
        alias.asname or alias.name
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in ast.walk(source.tree):
        if read := _clock_read(node, time_names):
            yield source.fault(
                node.lineno,  # type: ignore[attr-defined]
                f"reads the time with {read}; ask the Clock that the runtime was opened with",
            )


def is_short_enough(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LINES_MAX:
        yield source.fault(
            LINES_MAX + 1,
            f"has {lines} lines, more than {LINES_MAX}; ask which second idea has moved in, and "
            f"give it a file",
        )


def uses_names_that_say_something(source: Source) -> Iterator[str]:
    parts = [(1, part.removesuffix(".py")) for part in source.path.split("/")[1:]]
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    defined = [
        (node.lineno, node.name) for node in ast.walk(source.tree) if isinstance(node, named)
    ]
    for line, name in parts + defined:
        if name in ALLOWED_NAMES:
            continue
        for word in sorted(FORBIDDEN_WORDS.intersection(_words(name))):
            yield source.fault(line, f"{name!r} has {word!r} in it; say what the thing is or does")


def _outside_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        # A function inside this one is visited for itself.
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _outside_type_checking(child)


def _is_third_party(module: str) -> bool:
    name = module.partition(".")[0]
    return name != PACKAGE and name not in sys.stdlib_module_names


def _clock_read(node: ast.AST, time_names: set[str]) -> str | None:
    if isinstance(node, ast.ImportFrom) and node.module == "time" and not node.level:
        names = sorted(TIME_READS.intersection(alias.name for alias in node.names))
        return f"time.{names[0]}" if names else None
    if not isinstance(node, ast.Attribute):
        return None
    text = ast.unparse(node.value)
    if node.attr in TIME_READS and text in time_names:
        return f"time.{node.attr}"
    if node.attr in DATETIME_READS and text.split(".")[-1] in {"datetime", "date"}:
        return f"{text}.{node.attr}"
    return None


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")


@pytest.fixture(scope="module")
def package() -> list[Source]:
    """Every file of the package; each is parsed once for all rules."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    assert paths, f"no source found below {ROOT / PACKAGE}"
    return [Source.of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]


def _check(rule: Rule, package: list[Source]) -> None:
    faults = [fault for source in package for fault in rule(source)]

    assert not faults, "\n" + "\n".join(faults)


def test_a_floor_imports_only_floors_below_it(package: list[Source]) -> None:
    """A call walks down the floors; nothing imports upward or sideways."""
    _check(imports_only_floors_below, package)


def test_one_file_names_engines(package: list[Source]) -> None:
    """A runtime works with any engine, since it knows the interface only."""
    _check(leaves_engines_to_their_chooser, package)


def test_a_floor_imports_nothing_from_the_package_root(package: list[Source]) -> None:
    """The root gathers the public names for users; the floors know where things are."""
    _check(imports_nothing_from_the_root, package)


def test_imports_stand_at_the_top(package: list[Source]) -> None:
    """An import inside a function is usually a class standing on the wrong floor."""
    _check(imports_at_the_top, package)


def test_only_the_environment_imports_lmdb(package: list[Source]) -> None:
    """Nothing above the disk assumes LMDB."""
    _check(leaves_lmdb_to_its_owner, package)


def test_only_its_room_imports_psycopg(package: list[Source]) -> None:
    """Whoever has no use for PostgreSQL needs no client for it."""
    _check(leaves_psycopg_to_its_room, package)


def test_only_the_clock_asks_the_time(package: list[Source]) -> None:
    """Whoever asks the machine for the time cannot be driven by a virtual clock."""
    _check(leaves_time_to_the_clock, package)


def test_files_stay_short(package: list[Source]) -> None:
    """A file is one idea."""
    _check(is_short_enough, package)


def test_names_say_something(package: list[Source]) -> None:
    """A name that fits everything names nothing."""
    _check(uses_names_that_say_something, package)


def test_no_file_names_a_registry_or_a_home_folder() -> None:
    """What is in the tree is true on every machine."""
    faults = [
        f"{path}:{number}: {match.group()!r} belongs to one machine; take it out"
        for path in _text_files()
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1)
        if (match := MACHINE_PATHS.search(line))
    ]

    assert not faults, "\n" + "\n".join(faults)


def _text_files() -> Iterator[str]:
    """Files that are tracked, or would be with the next commit."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git work tree, or there is no git")
    for name in filter(None, listing.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and _is_text(path):
            yield name


def _is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_text("utf-8")
    except UnicodeDecodeError:
        return False


BROKEN: list[tuple[Rule, str, str, int]] = [
    (imports_only_floors_below, "durable/_lmdb/a.py", "\nfrom .._gates.input_gate import X", 2),
    (imports_only_floors_below, "durable/_model/a.py", "from durable._loop import spawn", 1),
    (imports_only_floors_below, "durable/_gates/a.py", "import durable._lmdb.layout", 1),
    (imports_only_floors_below, "durable/_runtime/a.py", "from durable.asgi import app", 1),
    (imports_only_floors_below, "durable/_attic/a.py", "", 1),
    (leaves_engines_to_their_chooser, "durable/_runtime/a.py", "import durable._lmdb.layout", 1),
    (leaves_engines_to_their_chooser, "durable/cli/a.py", "from .._memory.engine import X", 1),
    (leaves_engines_to_their_chooser, "durable/operate/a.py", "import durable._lmdb.check", 1),
    (imports_nothing_from_the_root, "durable/_object/a.py", "from durable import State", 1),
    (imports_nothing_from_the_root, "durable/_object/a.py", "from .. import State", 1),
    (imports_at_the_top, "durable/_object/a.py", "def f():\n    import json", 2),
    (imports_at_the_top, "durable/_object/a.py", "def f():\n    if x:\n        import rich", 3),
    (imports_at_the_top, "durable/cli/a.py", "def f():\n    from durable import open", 2),
    (leaves_lmdb_to_its_owner, "durable/_lmdb/layout.py", "import lmdb", 1),
    (leaves_lmdb_to_its_owner, "durable/cli/a.py", "from lmdb import open", 1),
    (leaves_psycopg_to_its_room, "durable/_runtime/a.py", "from psycopg import sql", 1),
    (leaves_time_to_the_clock, "durable/_object/a.py", "import time\ntime.time()", 2),
    (leaves_time_to_the_clock, "durable/_object/a.py", "import time as t\nt.monotonic_ns", 2),
    (leaves_time_to_the_clock, "durable/_object/a.py", "from time import perf_counter", 1),
    (leaves_time_to_the_clock, "durable/_object/a.py", "import datetime as d\nd.date.today()", 2),
    (leaves_time_to_the_clock, "durable/_object/a.py", "x = datetime.now(UTC)", 1),
    (is_short_enough, "durable/_object/a.py", "\n" * 401, 401),
    (uses_names_that_say_something, "durable/_object/utils.py", "", 1),
    (uses_names_that_say_something, "durable/_object/a.py", "class TaskManager: ...", 1),
    (uses_names_that_say_something, "durable/_object/a.py", "\nasync def read_data(): ...", 2),
]


@pytest.mark.parametrize(("rule", "path", "text", "line"), BROKEN)
def test_each_rule_notices_what_breaks_it(rule: Rule, path: str, text: str, line: int) -> None:
    """A rule that finds nothing because it looks at nothing would hold for ever."""
    faults = list(rule(Source.of(path, text)))

    assert len(faults) == 1
    assert faults[0].startswith(f"{path}:{line}: ")


KEPT: list[tuple[Rule, str, str]] = [
    (imports_only_floors_below, "durable/_gates/a.py", "from .._loop.loop import spawn"),
    (imports_only_floors_below, "durable/_gates/a.py", "from .answers import Answer"),
    (imports_only_floors_below, "durable/asgi.py", "from durable._lmdb.layout import key"),
    (leaves_engines_to_their_chooser, ENGINE_CHOOSER, "from durable._lmdb.layout import key"),
    (leaves_engines_to_their_chooser, FILES_OF_STORES, "import durable._lmdb.check"),
    (leaves_engines_to_their_chooser, "durable/_lmdb/a.py", "from durable._lmdb.b import c"),
    (imports_at_the_top, "durable/cli/a.py", "def f():\n    import rich"),
    (
        imports_at_the_top,
        "durable/_object/a.py",
        "def f():\n    if TYPE_CHECKING:\n        import json",
    ),
    (leaves_lmdb_to_its_owner, LMDB_OWNERS[0], "import lmdb"),
    (leaves_psycopg_to_its_room, "durable/_postgres/a.py", "import psycopg"),
    (leaves_time_to_the_clock, CLOCK_OWNER, "import time\ntime.time()"),
    (leaves_time_to_the_clock, "durable/_object/a.py", "clock.now()\nself.time.time"),
    (is_short_enough, "durable/_object/a.py", "\n" * 400),
    (uses_names_that_say_something, "durable/_object/a.py", "class AlarmInfo: ..."),
    (uses_names_that_say_something, "durable/_object/a.py", "def database(): ..."),
]


@pytest.mark.parametrize(("rule", "path", "text"), KEPT)
def test_each_rule_lets_pass_what_keeps_it(rule: Rule, path: str, text: str) -> None:
    """A rule that cries wolf would be switched off."""
    assert not list(rule(Source.of(path, text)))


@pytest.mark.parametrize(
    "text", ["see /ho" + "me/x/y", "https://py" + "pi.org/p", "'/Us" + "ers/x'"]
)
def test_paths_of_one_machine_are_noticed(text: str) -> None:
    """The expression finds what it is made for."""
    assert MACHINE_PATHS.search(text)


@pytest.mark.parametrize("text", ["https://example.com/home/x", "the home/folder", "/homepage/x"])
def test_other_paths_are_not_taken_for_paths_of_one_machine(text: str) -> None:
    """Nor does it find what looks alike."""
    assert not MACHINE_PATHS.search(text)
