"""`durable dev`: a Python Worker of Cloudflare's, from its own configuration."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--operate", is_flag=True, help="Allow `durable tail` and `durable top`.")
@click.option("--reload", is_flag=True, help="Reload the code when a Python file changes.")
@click.option("--debug", is_flag=True, help="Tell what objects do wrong.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["critical", "error", "warning", "info", "debug"]),
)
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
    # Not at the top: the other commands do without what a Worker imports.
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
    server = _server(served, host, port, log_level, reload)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # it has shut down by now, which is how it is ended
    except SystemExit as ended:
        return int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    return 0 if server.started else 3


def _file_here() -> str:
    for name in FILES:
        if Path(name).is_file():
            return name
    raise click.UsageError(f"there is none of {', '.join(FILES)} in {os.getcwd()}; give FILE")


def _server(served: Served, host: str, port: int, log_level: str, reload: bool) -> uvicorn.Server:
    try:
        import uvicorn  # noqa: PLC0415 - all other commands do without it
    except ImportError:
        raise click.UsageError("serving needs uvicorn; install durable-objects[asgi]") from None
    options: dict[str, Any] = {"host": host, "port": port, "log_level": log_level}
    config = uvicorn.Config(served.application, lifespan="on", log_config=_logging(), **options)
    if not reload:
        return uvicorn.Server(config)
    try:
        # Not at the top, as it needs both uvicorn and watchfiles.
        reloading = import_module(".dev_reloading", __package__)
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        raise click.UsageError(
            "--reload needs watchfiles; install durable-objects[reload]"
        ) from None
    server: uvicorn.Server = reloading.server(config, served)
    return server


def _logging() -> dict[str, Any]:
    """Uvicorn's, by which the library's own words are heard too."""
    import uvicorn.config  # noqa: PLC0415 - as above

    made: dict[str, Any] = {**uvicorn.config.LOGGING_CONFIG}
    made["loggers"] = {
        **made["loggers"],
        "durable": {"handlers": ["default"], "level": "INFO", "propagate": False},
    }
    return made
