"""`durable init`: a new project that runs; or the tables of a store in a database."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from shlex import quote

import click

from durable._model.database_url import is_url, shown
from durable._runtime.engines import init_database

from .plain_text import say
from .project import project_files


@click.command()
@click.argument("folder", default=".")
def init(folder: str) -> None:
    """Make a new project: a program, its test, a Dockerfile.

    The files go into FOLDER, which is made if it does not exist; by default into this folder. No
    existing file is overwritten.

    If FOLDER is the URL of a PostgreSQL database, make the tables of a store there, or upgrade
    those of an older version.
    """
    if is_url(folder):
        changed = init_database(folder)
        say(f"{shown(folder)} {'is ready' if changed else 'was ready already'} for a store")
        return
    place = Path(folder).absolute()
    files = project_files(place.name)
    if os.path.lexists(place) and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "the project goes into a folder", folder)
    for path in files:
        if os.path.lexists(place / path):
            why = "it exists already, and is not overwritten; choose another folder"
            raise FileExistsError(errno.EEXIST, why, os.path.join(folder, path))
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        with (place / path).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        say(f"{os.path.join(folder, path)}", err=True)
    go = "" if place == Path.cwd() else f"cd {quote(folder)}; "
    say(f"Run it:  {go}uvicorn main:app")
    say(f"Test it: {go}python -m pytest")
