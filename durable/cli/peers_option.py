"""The options of commands that reach processes of other machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from durable._deploy.config import read_config
from durable._model.peers import Peers

from .environment_option import in_environment


def of_peers(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options, which `peers_in` reads."""
    config = click.option(
        "--config",
        metavar="FILE",
        help="A configuration whose [peers] leads to the processes of other machines, too.",
    )
    return config(in_environment(command))


def peers_in(config: str | None, environment: str | None) -> Peers | None:
    """The `[peers]` of a configuration file; None if there is no file."""
    if config is None:
        return None
    peers = read_config(config, environment).script.peers
    if peers is None:
        raise ValueError(f"{config} has no table [peers]")
    return peers
