"""Identifies this machine, and finds out whether one of its processes is certainly dead: then no
other has to wait until its lease runs out.

An optimization: where it cannot be known, the lease runs out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# Within one PID namespace a number stands for one process.
_NAMESPACE: Final = "/proc/self/ns/pid"


def this_machine() -> str:
    """A name shared by processes that can see each other by their pids; empty if there is none."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)}"
    except OSError:
        return ""


def is_gone(pid: int, machine: str) -> bool:
    """Whether the process *pid* of *machine* is certainly dead."""
    if not machine or machine != this_machine():
        return False
    try:
        # The letter of its state follows its name, which may contain any character.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        with suppress(OSError):
            return Path("/proc/self/stat").exists()
        return False
    except (OSError, IndexError):
        return False
    return state in {"Z", "X"}  # dead, and not waited for by its parent yet
