"""The option that chooses an environment of a configuration file, of commands that read one."""

from __future__ import annotations

import click

in_environment = click.option("--environment", help="Use its [env.NAME] table of this name.")
