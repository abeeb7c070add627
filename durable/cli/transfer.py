"""The commands that carry objects and stores elsewhere: `export`, `import`, `copy`."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import click

from durable import operate
from durable._runtime.engines import is_url
from durable._runtime.store_files import sync_folder
from durable.operate import Existing, Found
from durable.operate.databases import export_sqlite
from durable.operate.parts import new_file, take_away_left

from .plain_text import say
from .printing import as_quiet, progress, say_left_out, size, utf8_stdout

LOOK_S = 0.2


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="[CLASS", required=False)
@click.argument("name_or_id", metavar="[NAME_OR_ID]]", required=False)
@click.option("-o", "--output", default="-", help="The file to write; - is standard output.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--sqlite", metavar="FILE", help="Write the SQL database of one object, as a file of SQLite's."
)
@as_quiet
def export(
    folder: str,
    cls: str | None,
    name_or_id: str | None,
    output: str,
    force: bool,
    sqlite: str | None,
    is_quiet: bool,
) -> int:
    """Export objects as lines of JSON.

    Writes all objects of the store in FOLDER, those of CLASS, or one. Damaged values and objects
    are left out and reported; the exit status is 1 then.

    The export is a snapshot of one moment. While it is being written, the file of a store in use
    grows by what its program writes, so write to a file and not to a slow reader.
    """
    if sqlite is not None:
        return _export_sqlite(folder, cls, name_or_id, sqlite, is_quiet)
    with operate.look(folder) as store, _named(output), _open_output(output, force) as file:

        def total() -> int:
            if name_or_id is not None:
                return 1
            return store.measure().objects if cls is None else store.count(store.cls(cls))

        with progress("exporting objects", total, is_quiet=is_quiet) as show:
            carried = operate.export(
                store,
                file,
                cls=cls,
                name_or_id=name_or_id,
                on_object=_now_and_then(show),
                on_damaged=_say_damaged,
            )
            file.flush()
        status = say_left_out(store) or (1 if carried.damaged else 0)
    if status or (output != "-" and not is_quiet):
        what = f"{carried.objects:,} objects with {carried.values:,} values"
        left_out = f"{carried.damaged_objects:,} objects, {carried.damaged:,} values"
        say(f"{what}; left out as damaged: {left_out}" if status else what, err=True)
    return status


def _export_sqlite(
    folder: str, cls: str | None, name_or_id: str | None, file: str, is_quiet: bool
) -> int:
    if cls is None or name_or_id is None:
        raise click.UsageError("--sqlite takes one object: FOLDER CLASS NAME_OR_ID")
    with operate.look(folder) as store, _named(file):
        written = export_sqlite(store, store.find(cls, name_or_id), file)
    if not is_quiet:
        say(f"{size(written)} of SQLite", err=True)
    return 0


def _say_damaged(found: Found, key: str, why: str) -> None:
    which = str(found.id) if found.name is None else repr(found.name)
    what = f"the value of the key {key!r} of the object {which} of {found.cls.label}: {why}"
    say(f"left out: {what}", err=True)


def _now_and_then(show: Callable[[int], None]) -> Callable[[int], None]:
    """Shows how many objects were carried, each hundred of them."""
    return lambda count: show(count) if count % 100 == 0 else None


@contextmanager
def _named(output: str) -> Iterator[None]:
    """Adds the name of the file to errors of writing to it once it is open."""
    try:
        yield
    except OSError as error:
        if error.filename is None and not isinstance(error, BrokenPipeError):
            error.filename = "the standard output" if output == "-" else output
        raise


@contextmanager
def _open_output(output: str, force: bool) -> Iterator[TextIO]:
    """The file takes its place at the end, complete and synced, or not at all."""
    if output == "-":
        yield utf8_stdout()
        return
    if os.path.isdir(output):
        raise IsADirectoryError(errno.EISDIR, "a folder is there; give the name of a file", output)
    if os.path.lexists(output) and not force:
        why = "the file exists already; --force overwrites it"
        raise FileExistsError(errno.EEXIST, why, output)
    if os.path.exists(output) and not os.path.isfile(output):
        with open(output, "w", encoding="utf-8", newline="\n") as device:
            yield device
        return
    target = os.path.realpath(output)  # a link stays one
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", output)
    # A new name: another export to the same file, running or killed, is not in the way.
    part = operate.part_of(target)
    _take_away_left(target)
    try:
        with open(new_file(part), "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not force and os.path.lexists(target):
                why = "another file was made there meanwhile; --force overwrites it"
                raise FileExistsError(errno.EEXIST, why, output)
            os.replace(part, target)
        sync_folder(os.path.dirname(target))
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _take_away_left(target: str) -> None:
    for part in take_away_left(target):
        say(f"removed {part}, left by a run that was killed", err=True)


@click.command("import")
@click.argument("folder")
@click.argument("file")
@click.option("--class", "cls", help="Import into this class instead of the file's.")
@click.option("--name", help="Import under this name; the file must have one object.")
@click.option(
    "--existing",
    type=click.Choice([str(each) for each in Existing]),
    default=str(Existing.REFUSE),
    show_default=True,
    help="What to do with objects that exist already.",
)
@as_quiet
def import_(
    folder: str, file: str, cls: str | None, name: str | None, existing: str, is_quiet: bool
) -> None:
    """Import objects from an exported file.

    FILE is read and checked as a whole before anything is written to the store in FOLDER. Then each
    object is written atomically: after an interruption, run it again with --existing skip.
    """
    totals: list[int] = []
    with progress(
        "importing objects", lambda: totals[0] if totals else None, is_quiet=is_quiet
    ) as show:
        carried = operate.import_file(
            folder,
            file,
            cls=cls,
            name=name,
            existing=existing,
            on_total=totals.append,
            on_object=_now_and_then(show),
        )
    skipped = f", {carried.skipped:,} skipped" if carried.skipped else ""
    if not is_quiet:
        say(f"{carried.objects:,} objects with {carried.values:,} values{skipped}", err=True)


def _size_of(folder: str) -> int:
    """The bytes of all files there, and in the folders of its shards."""
    return sum(
        os.stat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder)
        for name in names
    )


@click.command()
@click.argument("folder")
@click.argument("target")
@click.option("--compact", is_flag=True, help="Leave out free pages; the copy is smaller.")
@click.option(
    "--shards",
    type=click.IntRange(1, 1_024),
    help="Into how many shards the copy is divided, for processes that share it.",
)
@click.option(
    "--move", is_flag=True, help="Mark FOLDER as moved at the end, so that it is not opened again."
)
@as_quiet
def copy(
    folder: str, target: str, compact: bool, shards: int | None, move: bool, is_quiet: bool
) -> None:
    """Copy a store, also while it is in use.

    TARGET becomes a store of its own, a snapshot of the store in FOLDER. While it is being copied,
    the file of a store in use grows by what its program writes.

    FOLDER and TARGET may be URLs of PostgreSQL databases. The database of TARGET must be empty, and
    prepared by `durable init`. An interrupted copy into a database goes on when it is run again; at
    its end all objects are compared.
    """
    if move or is_url(target):
        with progress("copying", is_quiet=is_quiet) as show:
            operate.copy(folder, target, on_objects=show, moves=move)
        return
    errors: list[BaseException] = []

    def work() -> None:
        try:
            operate.copy(folder, target, compact=compact, part=part, shards=shards)
        except BaseException as error:
            errors.append(error)

    def total() -> int:
        with operate.look(folder) as store:
            found = store.measure()
        return (found.pages - (found.free_pages if compact else 0)) * found.page_size

    _take_away_left(target)
    # LMDB copies in one call, which cannot be interrupted: then the thread is left behind.
    thread = threading.Thread(target=work, daemon=True)
    part = operate.part_of(target)
    try:
        with progress("copying", total, shown_as=size, is_quiet=is_quiet) as show:
            thread.start()
            while thread.is_alive():
                thread.join(LOOK_S)
                with suppress(OSError):
                    show(_size_of(part))
    except KeyboardInterrupt:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if errors:
        raise errors[0]
