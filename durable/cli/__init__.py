"""The command line: `python -m durable COMMAND`, and the script `durable`.

Rule: what goes wrong in the world is one line on stderr and a status above zero, never a traceback.
This file needs no extras, so that `demo` and `check` run wherever the library does; the other
commands need those of `durable-objects[cli]`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from durable._model.errors import DurableError

from . import checking, demo

Run = Callable[[list[str]], int]

_run_command: Run | None
try:
    from .commands import run as _run_command
except ModuleNotFoundError as _error:
    if _error.name not in {"click", "rich"}:
        raise
    _run_command = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of *argv* (the process's own by default); answers the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    run: Run = _run_command or _run_without_extras
    if arguments[:1] == ["demo"]:
        run = _run_without_extras
    try:
        return run(arguments)
    except BrokenPipeError:
        # Whoever reads has had enough, and nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (DurableError, OSError, ValueError) as error:
        print(f"durable: {_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run_without_extras(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="durable",
        description="Durable Objects for Python: named objects in one folder.",
        epilog=None
        if _run_command
        else "To look into stores, copy, export and watch them, install durable-objects[cli].",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_command(commands)
    checking.add_command(commands)
    if _run_command is None and arguments[:1] not in ([], ["demo"], ["check"], ["-h"], ["--help"]):
        parser.error(
            f"{arguments[0]!r} is no command, or needs durable-objects[cli]; try demo or check"
        )
    parsed = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    return run(parsed)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


__all__ = ["main"]
