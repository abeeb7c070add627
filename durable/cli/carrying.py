"""The commands that carry objects and stores: `export`, `import`, `copy`."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import click

from durable import operate
from durable._lmdb.create import sync_folder
from durable.operate import Existing, Found

from .plain_text import say
from .printing import progress, say_left_out, size, utf8_stdout

LOOK_S = 0.2


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="[CLASS", required=False)
@click.argument("name_or_id", metavar="[NAME_OR_ID]]", required=False)
@click.option("-o", "--output", default="-", help="The file to write; - is the standard output.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def export(folder: str, cls: str | None, name_or_id: str | None, output: str, force: bool) -> int:
    """Write all objects of FOLDER, those of CLASS, or one, as lines of JSON.

    A value that is damaged is left out, which is said; the status is 1 then.

    They are of one moment. Until they are written, the file of a store in use grows by what its
    program writes, so give it a file, not a slow reader.
    """
    with operate.look(folder) as store, _named(output), _open_output(output, force) as file:
        with progress("exporting") as tell:
            carried = operate.export(
                store,
                file,
                cls=cls,
                name_or_id=name_or_id,
                on_object=_now_and_then(tell),
                on_damaged=_say_damaged,
            )
            file.flush()
        status = say_left_out(store) or (1 if carried.damaged else 0)
    if output != "-" or status:
        what = f"{carried.objects:,} objects with {carried.values:,} values"
        left_out = f"{carried.damaged_objects:,} objects, {carried.damaged:,} values"
        say(f"{what}; left out as damaged: {left_out}" if status else what, err=True)
    return status


def _say_damaged(found: Found, key: str, why: str) -> None:
    which = str(found.id) if found.name is None else repr(found.name)
    what = f"the value of the key {key!r} of the object {which} of {found.cls.label}: {why}"
    say(f"left out: {what}", err=True)


def _now_and_then(tell: Callable[[str], None]) -> Callable[[int], None]:
    """Says how many objects were carried, each thousand of them."""
    return lambda count: tell(f"{count:,} objects") if count % 1_000 == 0 else None


@contextmanager
def _named(output: str) -> Iterator[None]:
    """Errors of writing to a file that is open do not say which it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None and not isinstance(error, BrokenPipeError):
            error.filename = "the standard output" if output == "-" else output
        raise


@contextmanager
def _open_output(output: str, force: bool) -> Iterator[TextIO]:
    """What is written to a file takes its place at the end, whole and synced, or not at all."""
    if output == "-":
        yield utf8_stdout()
        return
    if os.path.isdir(output):
        raise IsADirectoryError(errno.EISDIR, "a folder is there; give the name of a file", output)
    if os.path.lexists(output) and not force:
        why = "the file is there already; --force writes over it"
        raise FileExistsError(errno.EEXIST, why, output)
    if os.path.exists(output) and not os.path.isfile(output):
        with open(output, "w", encoding="utf-8", newline="\n") as device:
            yield device
        return
    target = os.path.realpath(output)  # a link stays one
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "its folder is not there", output)
    # A name of its own: another export to the same file, under way or killed, is not in the way.
    part = f"{target}.{secrets.token_hex(4)}.part"
    try:
        with open(part, "x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not force and os.path.lexists(target):
            why = "another file has come there meanwhile; --force writes over it"
            raise FileExistsError(errno.EEXIST, why, output)
        os.replace(part, target)
        sync_folder(os.path.dirname(target))
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


@click.command("import")
@click.argument("folder")
@click.argument("file")
@click.option("--class", "cls", help="Into this class, whatever the file says.")
@click.option("--name", help="Under this name, if the file has one object.")
@click.option(
    "--existing",
    type=click.Choice([str(each) for each in Existing]),
    default=str(Existing.REFUSE),
    show_default=True,
    help="What becomes of objects that are there already.",
)
def import_(folder: str, file: str, cls: str | None, name: str | None, existing: str) -> None:
    """Put the objects of FILE, which `export` wrote, into the store in FOLDER.

    FILE is read and checked as a whole before anything is written. Then each object is written
    whole: after an interruption do it again with --existing skip.
    """
    with progress("importing") as tell:
        carried = operate.import_file(
            folder,
            file,
            cls=cls,
            name=name,
            existing=existing,
            on_object=_now_and_then(tell),
        )
    skipped = f", {carried.skipped:,} skipped" if carried.skipped else ""
    say(f"{carried.objects:,} objects with {carried.values:,} values{skipped}", err=True)


@click.command()
@click.argument("folder")
@click.argument("target")
@click.option("--compact", is_flag=True, help="Leave out free pages.")
def copy(folder: str, target: str, compact: bool) -> None:
    """Copy the store in FOLDER to TARGET: one moment of it, while it may be in use.

    Until it is copied, the file of a store in use grows by what its program writes.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            operate.copy(folder, target, compact=compact, part=part)
        except BaseException as error:
            errors.append(error)

    # LMDB copies in one call, which nothing can interrupt: the thread is left behind then.
    thread = threading.Thread(target=work, daemon=True)
    part = operate.part_of(target)
    try:
        with progress("copying") as tell:
            thread.start()
            while thread.is_alive():
                thread.join(LOOK_S)
                with suppress(OSError):
                    tell(size(sum(entry.stat().st_size for entry in os.scandir(part))))
    except KeyboardInterrupt:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if errors:
        raise errors[0]
