"""The command line: `python -m durable COMMAND`, and the script `durable`.

Rule: a failure of the world is one line on stderr and a status above zero, never a traceback. This
file needs no extras, so that `demo` and `check` run wherever the library does; the other commands
need those of `durable-objects[cli]`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from durable._model.errors import DurableError

from . import checking, demo
from .plain_text import say

Run = Callable[[list[str]], int]

_run_command: Run | None
try:
    from .commands import run as _run_command
except ModuleNotFoundError as _error:
    if _error.name not in {"click", "rich"}:
        raise
    _run_command = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of *argv* (the process's own by default); returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    run: Run = _run_command or _run_without_extras
    if arguments[:1] == ["demo"]:
        run = _run_without_extras
    try:
        status = run(arguments)
        _flush()  # within the try: a failure to write is reported like any other
        return status
    except BrokenPipeError:
        # The reader, such as `head`, has gone, and cannot be written to any more.
        _drop_output()
        return 141
    except (DurableError, OSError, ValueError) as error:
        _say(f"durable: {_words(error)}", *getattr(error, "__notes__", ()))
        return _end_output(1)
    except MemoryError:
        _say("durable: there is not enough memory for this")
        return _end_output(1)
    except KeyboardInterrupt as error:
        _drop_output()  # do not wait for a slow reader
        _say(*getattr(error, "__notes__", ()))
        return 130


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _end_output(status: int) -> int:
    """Write what is still buffered; if that fails, Python must not try again at the exit."""
    try:
        _flush()
    except (OSError, ValueError):
        _drop_output()
    return status


def _drop_output() -> None:
    """Discard what was not written yet."""
    with suppress(OSError, ValueError, AttributeError):  # there may be no standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(*lines: str) -> None:
    for line in lines:
        say(line, err=True)


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
            f"{arguments[0]!r} is not a command, or needs durable-objects[cli]; try demo or check"
        )
    parsed = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    return run(parsed)


def _words(error: Exception) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:
        return f"something cannot be read or written: {error.strerror}"
    return f"{error.filename}: {error.strerror}"


__all__ = ["main"]
