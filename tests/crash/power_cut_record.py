"""The record of what a process did to the files below a folder, which `record_writes.c` makes.

Rule: what the recorder could not follow is refused when the record is read, so that no cut is made
of half the truth.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from enum import Enum
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("record_writes.c")
_HEADER = struct.Struct("=IIQQQ")


class Kind(Enum):
    """What an event is; the letters are those of the recorder."""

    WRITE = "W"  # begins; *offset* and *more* say where and what
    WRITE_SYNCED = "D"  # the write before it, through a descriptor that is O_DSYNC, is on disk
    TRUNCATE = "T"  # to *offset*
    SYNC_BEGAN = "B"  # in the thread *offset*
    SYNC_ENDED = "E"
    CREATE = "C"  # in the folder *file*, of the file *offset*, which is a folder if *flag*
    REMOVE = "U"
    RENAME = "R"  # "from/to" in the folder *file*
    MAP = "M"  # for writing, which nobody sees
    NOTE = "N"  # of the program
    REFUSE = "X"  # what cannot be followed


@frozen
class Event:
    """One thing that happened."""

    kind: Kind
    file: int  # its number
    offset: int
    flag: bool
    more: bytes

    @property
    def name(self) -> str:
        return os.fsdecode(self.more)


def number_of(file: Path) -> int:
    """What a file is called in the record."""
    found = file.stat()
    return (found.st_dev * 1_000_003 + found.st_ino) % (1 << 64)


def why_not() -> str | None:
    """Why nothing can be recorded here; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"LD_PRELOAD, as it is used here, is of Linux, and this is {sys.platform}"
    if _compiler() is None:
        return "a C compiler is needed: cc, gcc or clang"
    return None


def build_recorder(folder: Path) -> Path:
    """Compile the recorder into *folder*."""
    return build_shim(SOURCE, folder)


def build_shim(source: Path, folder: Path) -> Path:
    """Compile what is to be preloaded into *folder*."""
    compiler = _compiler()
    assert compiler is not None
    shim = folder / f"{source.stem}.so"
    command = [compiler, "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", str(source)]
    subprocess.run([*command, "-o", str(shim), "-ldl", "-lpthread"], check=True, timeout=60)
    return shim


def run_recorded(recorder: Path, files: Path, log: Path, module: str, *arguments: str) -> int:
    """Run a Python module; what it does below *files* is added to *log*. Answers its exit code."""
    preloaded = [str(recorder), os.environ.get("LD_PRELOAD", "")]
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(filter(None, preloaded)),
            "POWER_CUT_ROOT": str(files),
            "POWER_CUT_LOG": str(log),
        },
        timeout=60,
        check=False,
    ).returncode


def read_record(log: Path) -> list[Event]:
    """All events, in their order."""
    raw = memoryview(log.read_bytes())
    events, at = [], 0
    while at < len(raw):
        kind, flags, file, offset, size = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        events.append(Event(Kind(chr(kind)), file, offset, bool(flags), bytes(raw[at : at + size])))
        at += size
    assert at == len(raw), "the record is cut off"
    for event in events:
        assert event.kind is not Kind.REFUSE, f"the recorder cannot follow {event.name}"
    return events


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
