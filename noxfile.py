"""The sessions that a change must pass, each in an environment of its own: `nox -l` lists them.

`.ci/run` runs them all, as far as the interpreters can be had.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    "docs",
    "tests",
    "uvloop",
    "lowest",
    "core",
    "cpython_off",
    "shared",
    "remote",
    "postgres",
]

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    classifier.rpartition(" ")[2]
    for classifier in PROJECT["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]
# What differs most between interpreters: how tasks run, and what is borrowed from CPython.
OF_INTERPRETERS = ("tests/cpython", "tests/gates", "tests/object", "tests/loop")
CORE = (*OF_INTERPRETERS, "tests/promises")
# What the versions of the package's own dependencies make a difference to: anyio, lmdb, attrs.
OF_DEPENDENCIES = ("tests/gates", "tests/loop", "tests/engine", "tests/storage", "tests/promises")
# What a store is asked for, whoever keeps it.
OF_STORAGE = tuple(
    f"tests/promises/test_{name}.py"
    for name in (
        *("p06_ordered", "p07_all_or_nothing", "p08_output_gate", "p09_failed_commit"),
        *("p12_alarms", "p13_forgettable"),
    )
)
# SQL in an object, as far as it matters who keeps its pages: the rest is SQLite's.
OF_SQL = tuple(
    f"tests/sql/test_{name}.py" for name in ("with_keys", "traps", "edges", "limits", "no_change")
)
# What calls between machines may make different: their order, what is said, copied and dropped. A
# second run of the other promises over TCP would say no more than the one over a unix socket.
OVER_TCP = tuple(
    f"tests/promises/test_{name}.py"
    for name in (
        *("p01_one", "p03_in_order", "p05_deadlocks", "p08_output_gate", "p10_by_value"),
        *("p14_broken_means_gone", "p14_never_said", "p17_cancelled_callers", "together"),
    )
)
# What depends on how tasks run: whose turn it is, and what a reset or a cancellation stops.
OF_TASKS = tuple(
    f"tests/promises/test_{name}.py"
    for name in (
        *("p03_in_order", "p04_input_gate", "p05_critical_sections", "p05_deadlocks"),
        *("p05_random_programs", "p08_output_gate", "p11_transactions"),
        *("p14_broken_means_gone", "p14_never_said", "p17_cancelled_callers", "together"),
    )
)
# The tools of the tests need a newer one themselves.
NEEDED_NEWER = ("typing-extensions",)
# uvloop differs from asyncio in the loop alone: `uvloop` runs the suite on it, the others do not.
NOT_UVLOOP = ("-k", "not uvloop")


def install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".", *(part for group in groups for part in ("--group", group)))


def run_tests(session: nox.Session, *arguments: str) -> None:
    session.run("python", "--version")
    session.run("python", "-m", "pytest", "-n", "2", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite but for its tests on uvloop, with the newest dependencies."""
    install(session, "dev")
    run_tests(session, *NOT_UVLOOP)


@nox.session(python=PYTHONS[0])
def uvloop(session: nox.Session) -> None:
    """The tests of the suite on uvloop."""
    install(session, "dev")
    run_tests(session, "-k", "uvloop")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """What uses dependencies, with the lowest version of each that the package itself allows.

    The tools of the tests are today's: what an old one of those lacks says nothing of the package.
    """
    constraints = str(Path(session.create_tmp()) / "lowest.txt")
    session.install("uv")
    session.run(
        "uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct",
        "--python-version", PYTHONS[0], "--output-file", constraints, "pyproject.toml",
        silent=True,
    )  # fmt: skip
    lines = Path(constraints).read_text(encoding="utf-8").splitlines()
    lowest_of = [line for line in lines if "==" in line and not line.startswith(NEEDED_NEWER)]
    # The plugin of the lowest anyio is of the time before pytest 9.
    session.install("-e", ".", "--group", "dev", "pytest<9")
    session.install("--no-deps", *lowest_of)
    run_tests(session, *OF_DEPENDENCIES, *NOT_UVLOOP)


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """Gates, objects and loops, with eager tasks where Python has them; the promises, too, on the
    newest Python."""
    install(session, "dev")
    chosen = CORE if session.python == PYTHONS[-1] else OF_INTERPRETERS
    run_tests(session, *chosen, *NOT_UVLOOP, "--eager-tasks")


@nox.session(python=PYTHONS[0])
def cpython_off(session: nox.Session) -> None:
    """Gates, objects, loops and what depends on tasks, without what is borrowed from CPython beyond
    what Python promises."""
    install(session, "dev")
    session.env["DURABLE_CPYTHON"] = "0"
    run_tests(session, *OF_INTERPRETERS, *OF_TASKS, *NOT_UVLOOP)


@nox.session(python=PYTHONS[0])
def remote(session: nox.Session) -> None:
    """The promises, with every call going over a socket to its object: TCP or a unix socket."""
    install(session, "dev")
    run_tests(session, *OVER_TCP, *NOT_UVLOOP, "--remote", "--tcp")
    over_unix = [f"--ignore={path}" for path in OVER_TCP]
    run_tests(session, "tests/promises", *over_unix, *NOT_UVLOOP, "--remote")


@nox.session(python=PYTHONS[0])
def shared(session: nox.Session) -> None:
    """The promises that are about storage and processes, kept by a store that processes may share:
    its objects' calls are those of any store, and `remote` has all promises between processes."""
    install(session, "dev")
    of_processes = ("tests/promises/test_p01_one.py", "tests/promises/test_p16_survives_kill.py")
    run_tests(session, *OF_STORAGE, *of_processes, *NOT_UVLOOP, "--shared")


@nox.session(python=PYTHONS[0])
def postgres(session: nox.Session) -> None:
    """The promises of storage and gates, kept by a store in PostgreSQL, and that engine's tests,
    through a pooler; LEFT OUT where these are not installed."""
    install(session, "dev")
    run_tests(session, *OF_STORAGE, *OF_SQL, *NOT_UVLOOP, "--postgres", "--pooler")
    run_tests(session, "tests/engine", "-k", "postgres", "--pooler")


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """ruff, as a linter and as a formatter."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """mypy --strict of the code, and pyright of what is public."""
    install(session, "dev")
    session.run("mypy")
    # pyright runs on node, which it fetches where none is installed.
    has_node = session.run("pyright", "--version", silent=True, success_codes=range(256))
    if "pyright" not in str(has_node):
        session.warn("LEFT OUT: pyright found no node; the public types were not verified")
        return
    session.run("pyright", "--verifytypes", "durable", "--ignoreexternal")


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """The documentation as a site, from a copy: it leaves its pages beside what it reads."""
    install(session, "docs")
    copy = session.create_tmp()
    code = (
        "import shutil, sys; shutil.copytree('docs', sys.argv[1] + '/docs', dirs_exist_ok=True); "
        "shutil.copy('zensical.toml', sys.argv[1])"
    )
    session.run("python", "-c", code, copy)
    with session.chdir(copy):
        session.run("zensical", "build", "--strict")


if __name__ == "__main__":
    sys.exit("run it with: nox")
