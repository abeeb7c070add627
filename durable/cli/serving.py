"""`durable serve`: an ASGI application under uvicorn; and the parts that all servers share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import uvicorn


T = TypeVar("T", bound=Callable[..., Any])


def serving_options(port: int) -> Callable[[T], T]:
    """The options of a command that serves, by default at *port*."""
    options = (
        click.option("--host", default="127.0.0.1", show_default=True),
        click.option("--port", default=port, show_default=True, type=click.IntRange(0, 65_535)),
        click.option("--operate", is_flag=True, help="Allow `durable tail` and `durable top`."),
        click.option("--reload", is_flag=True, help="Reload the code when a Python file changes."),
        click.option(
            "--log-level",
            default="info",
            show_default=True,
            type=click.Choice(["critical", "error", "warning", "info", "debug"]),
        ),
    )

    def add(command: T) -> T:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("application", metavar="MODULE:APP")
@serving_options(port=8000)
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
    return run_server(_make_server(application, host, port, log_level, reload))


def run_server(server: uvicorn.Server) -> int:
    """Serve until it is stopped; returns the exit status."""
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # it has shut down by now, as intended
    except SystemExit as ended:
        return int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    return 0 if server.started else 3


def uvicorn_of(what: str) -> Any:
    """uvicorn, which *what* needs and no other command; UsageError if it is not installed."""
    try:
        return import_module("uvicorn")
    except ImportError:
        raise click.UsageError(f"{what} needs uvicorn; install durable-objects[asgi]") from None


def reloading_of(name: str) -> Any:
    """The module *name* of this package, which needs uvicorn and watchfiles; UsageError if one is
    not installed."""
    try:
        return import_module(f".{name}", __package__)
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        raise click.UsageError(
            "--reload needs watchfiles; install durable-objects[reload]"
        ) from None


def _make_server(
    application: str, host: str, port: int, log_level: str, reload: bool
) -> uvicorn.Server:
    library = uvicorn_of("serving")
    options: dict[str, Any] = {"host": host, "port": port, "log_level": log_level}
    server: uvicorn.Server
    if reload:
        reloading = reloading_of("reloading")
        latest = reloading.Reloading(application, os.getcwd())
        server = reloading.Server(library.Config(latest, **options), latest)
    else:
        server = library.Server(library.Config(application, **options))
    return server
