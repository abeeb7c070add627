"""`durable dev`: a Python Worker of Cloudflare's, from its own configuration."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .serving import reloading_of, run_server, serving_options, uvicorn_of

if TYPE_CHECKING:
    import uvicorn

    from durable.workers.serving import Served

FILES = ("wrangler.jsonc", "wrangler.json", "wrangler.toml")
BODY_SIZE_MAX = 104_857_600


@click.command()
@click.argument("file", required=False)
@click.argument("beside", nargs=-1, metavar="[OTHER_FILE]...")
@click.option("-e", "--env", "environment", metavar="NAME", help="Use [env.NAME] of the file.")
@click.option("--path", metavar="FOLDER", help="The store's folder; .durable beside the file.")
@serving_options(port=8787)
@click.option("--debug", is_flag=True, help="Report what objects do wrong.")
def dev(
    file: str | None,
    beside: tuple[str, ...],
    environment: str | None,
    path: str | None,
    host: str,
    port: int,
    operate: bool,
    reload: bool,
    debug: bool,
    log_level: str,
) -> int:
    """Serve a Python Worker of Cloudflare's.

    FILE is its wrangler.toml or wrangler.jsonc, by default that of this folder. OTHER_FILEs are
    those of Workers that it is bound to.
    """
    # Not at the top: the other commands do not need what a Worker imports.
    served: Served = import_module("durable.workers.serving").Served(
        file or _file_here(),
        BODY_SIZE_MAX,
        {
            "beside": beside,
            "environment": environment,
            "path": path,
            "operate": operate or None,
            "debug": debug,
        },
    )
    return run_server(_server(served, host, port, log_level, reload))


def _file_here() -> str:
    for name in FILES:
        if Path(name).is_file():
            return name
    raise click.UsageError(f"there is none of {', '.join(FILES)} in {os.getcwd()}; give FILE")


def _server(served: Served, host: str, port: int, log_level: str, reload: bool) -> uvicorn.Server:
    library = uvicorn_of("serving")
    options: dict[str, Any] = {"host": host, "port": port, "log_level": log_level}
    config = library.Config(served.application, lifespan="on", log_config=_logging(), **options)
    server: uvicorn.Server
    if reload:
        server = reloading_of("dev_reloading").server(config, served)
    else:
        server = library.Server(config)
    return server


def _logging() -> dict[str, Any]:
    """Uvicorn's configuration of logging, with the library's own logger in it."""
    made: dict[str, Any] = {**import_module("uvicorn.config").LOGGING_CONFIG}
    made["loggers"] = {
        **made["loggers"],
        "durable": {"handlers": ["default"], "level": "INFO", "propagate": False},
    }
    return made
