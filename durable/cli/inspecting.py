"""`durable inspect`: a page in the browser that shows the contents of a store."""

from __future__ import annotations

import logging
import os
import secrets
import webbrowser
from threading import Timer

import click

from durable import inspector, operate

from .plain_text import say
from .serving import uvicorn_of

# The server listens by then; if not, the browser waits a little longer.
OPENED_AFTER_S = 0.5
HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@click.command()
@click.argument("folder")
@click.option("--port", default=0, type=click.IntRange(0, 65_535), help="By default a free one.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option(
    "--write", is_flag=True, help="Let the page change values, run alarms, evict and reset objects."
)
def inspect(folder: str, port: int, no_browser: bool, write: bool) -> int:
    """Look into a store in the browser.

    Serves a page on 127.0.0.1 to holders of the address with its token. Looking writes nothing,
    wakes no object, and interrupts no program. With --write the page can change things, through the
    program that has the store; each change is printed here.
    """
    uvicorn = uvicorn_of("the inspector")
    with operate.look(folder) as store:  # raises now if it cannot be looked into
        path = store.path
    token = secrets.token_urlsafe()
    application = inspector.app(folder, token=token, hosts=HOSTS, write=write)
    if write:
        _print_changes()
    config = uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    address = f"http://127.0.0.1:{socket.getsockname()[1]}/?token={token}"
    say(f"the inspector of {path}: {address}")
    if not no_browser and "DURABLE_NO_BROWSER" not in os.environ:
        opening = Timer(OPENED_AFTER_S, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
    try:
        server.run(sockets=[socket])
    except KeyboardInterrupt:
        pass  # Ctrl-C is how it ends
    return 0


def _print_changes() -> None:
    """Print what the library logs of changes."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("durable")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
