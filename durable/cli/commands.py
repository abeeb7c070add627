"""The commands that are built with click: all but `demo`."""

from __future__ import annotations

import os

import click
from click.shell_completion import shell_complete

from .changing import call, delete, put
from .databases import sql
from .dev import dev
from .history import history, restore
from .inspecting import inspect
from .migrating import migrate
from .peers import peers
from .plain_text import say
from .serving import serve
from .show import alarms, check, ls, show, stats
from .starting import init
from .stub_classes import types
from .tail_top import tail, top
from .transfer import copy, export, import_

# Shells set it to ask for completions, and for the script that does so.
COMPLETE = "_DURABLE_COMPLETE"


@click.group(
    name="durable",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="durable-objects", prog_name="durable")
def commands() -> None:
    """Durable Objects for Python: named objects in one folder.

    Read-only commands are safe while the store is in use.
    """


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
def demo(arguments: tuple[str, ...]) -> None:
    """Run a counter; run it again to see what survives."""
    raise AssertionError("the command line runs it without click")


for _command in (
    demo, init, dev, serve, inspect, ls, show, sql, alarms, put, delete, call, history, restore,
    export, import_, copy, check, stats, tail, top, peers, migrate, types,
):  # fmt: skip
    commands.add_command(_command)


def run(arguments: list[str]) -> int:
    """Run the command that *arguments* name; returns the exit status."""
    completing = os.environ.get(COMPLETE)
    if completing:
        return shell_complete(commands, {}, "durable", COMPLETE, completing)
    try:
        # Not by click's main(), which handles closed pipes in its own way.
        with commands.make_context("durable", arguments) as made:
            status = commands.invoke(made)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        raise SystemExit(2) from None
    except click.UsageError as error:
        hint = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
        message = error.format_message().removesuffix(".")
        say(f"durable: {message}{hint}", err=True)
        if error.ctx is None or error.ctx.command is commands:
            say(f"commands: {', '.join(commands.commands)}", err=True)
        raise SystemExit(2) from None
    except click.Abort:
        return 130
    except click.ClickException as error:
        say(f"durable: {error.format_message()}", err=True)
        return 1
    return status if isinstance(status, int) else 0
