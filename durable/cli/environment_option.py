"""The option that chooses an environment of a configuration file, of commands that read one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def in_environment(command: Command) -> Command:
    """Give *command* the option."""
    option = click.option("--environment", help="Use its [env.NAME] table of this name.")
    return option(command)
