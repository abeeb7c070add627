"""The command line: `python -m durable COMMAND`, and the script `durable`.

Rule: what goes wrong in the world is one line on stderr and a status above zero, never a traceback.
This file needs no extras, so that `demo` runs wherever the library does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from durable._model.errors import DurableError

from . import demo

# Adds a command to those of `python -m durable`; sets `run` to what takes the arguments given.
AddCommand = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]

COMMANDS: tuple[AddCommand, ...] = (demo.add_command,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of *argv* (the process's own by default); answers the exit status."""
    parser = argparse.ArgumentParser(
        prog="durable", description="Durable Objects for Python: named objects in one folder."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_command in COMMANDS:
        add_command(commands)
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (DurableError, OSError) as error:
        print(f"durable: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


__all__ = ["main"]
