"""Which machine this is, and whether a process of it is gone for certain: then nobody has to wait
until its lease runs out.

An option for speed: where it cannot be known, a lease runs out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# Within one of these a number stands for one process.
_NAMESPACE: Final = "/proc/self/ns/pid"


def this_machine() -> str:
    """What processes have in common that can see each other by their pids; empty if that cannot be
    said."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)}"
    except OSError:
        return ""


def is_gone(pid: int, machine: str) -> bool:
    """Whether it is certain that the process *pid* of *machine* runs no more."""
    if not machine or machine != this_machine():
        return False
    try:
        # The letter of its state stands behind its name, which may have any sign in it.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        with suppress(OSError):
            return Path("/proc/self/stat").exists()
        return False
    except (OSError, IndexError):
        return False
    return state in {"Z", "X"}  # killed, and nobody has asked yet how it has ended
