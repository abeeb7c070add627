"""Identifies this machine, finds out whether one of its processes is certainly dead, so
that no other has to wait until its lease runs out, and says where a process can be asked.

That is an optimization: where it cannot be known, the lease runs out.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_BOOT: Final = _PROC / "sys/kernel/random/boot_id"
# Within one PID namespace a number stands for one process.
_NAMESPACE: Final = _PROC / "self/ns/pid"


def this_machine() -> str:
    """A name shared by processes that can see each other by their pids, and after it that of the
    machine; empty if there is none."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)} {os.uname().nodename}"
    except OSError:
        return ""


def name_of(machine: str) -> str:
    """The name of a machine, as it has said itself; empty if it is not known."""
    return machine.partition(" ")[2].partition(" ")[2]


def is_gone(pid: int, machine: str) -> bool:
    """Whether the process *pid* of *machine* is certainly dead."""
    if not machine or machine != this_machine():
        return False
    # By a signal that does nothing, since a living process of another user may be hidden in /proc.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it is there, and not this user's
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process is dead, and was not waited for by its parent yet."""
    try:
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return False  # the numbers there are those of another namespace
        # The letter of its state follows its name, which may contain any character.
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {"Z", "X"}


def control_folder(process: str) -> str:
    """The folder of the control socket of a process of this machine, by its id."""
    return os.path.join(tempfile.gettempdir(), f"durable-{process}")
