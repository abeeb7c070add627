"""`durable serve`: an ASGI application under uvicorn."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import uvicorn


@click.command()
@click.argument("application", metavar="MODULE:APP")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--operate", is_flag=True, help="Allow `durable tail` and `durable top`.")
@click.option("--reload", is_flag=True, help="Reload the code when a Python file changes.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["critical", "error", "warning", "info", "debug"]),
)
def serve(
    application: str, host: str, port: int, operate: bool, reload: bool, log_level: str
) -> int:
    """Serve an ASGI application.

    MODULE:APP names it, as in `main:app`; `durable.asgi.app(...)` makes one.
    """
    if ":" not in application:
        raise click.UsageError(f"give MODULE:APP, not {application!r}")
    if operate:
        os.environ["DURABLE_OPERATE"] = "1"
    sys.path.insert(0, os.getcwd())
    # One process: a store has one owner.
    server = _make_server(application, host, port, log_level, reload)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # it has shut down by now, which is how it is ended
    except SystemExit as ended:
        return int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    return 0 if server.started else 3


def uvicorn_of(what: str) -> Any:
    """uvicorn, which *what* needs and no other command; UsageError where it is not installed."""
    try:
        return import_module("uvicorn")
    except ImportError:
        raise click.UsageError(f"{what} needs uvicorn; install durable-objects[asgi]") from None


def _make_server(
    application: str, host: str, port: int, log_level: str, reload: bool
) -> uvicorn.Server:
    module = uvicorn_of("serving")
    if not reload:
        plain: uvicorn.Server = module.Server(
            module.Config(application, host=host, port=port, log_level=log_level)
        )
        return plain
    try:
        # Not at the top, as it needs both uvicorn and watchfiles.
        reloading = import_module(".reloading", __package__)
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        raise click.UsageError(
            "--reload needs watchfiles; install durable-objects[reload]"
        ) from None
    latest = reloading.Reloading(application, os.getcwd())
    config = module.Config(latest, host=host, port=port, log_level=log_level)
    server: uvicorn.Server = reloading.Server(config, latest)
    return server
