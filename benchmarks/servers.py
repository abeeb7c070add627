"""Redis and PostgreSQL, each started in a scratch folder on a unix socket of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_S_MAX = 20.0
STOP_S_MAX = 10.0
# Not always on PATH where the server is installed.
POSTGRESQL_FOLDERS = "/usr/lib/postgresql/*/bin"


def find_program(name: str) -> str | None:
    """The path of a program of Redis or PostgreSQL."""
    found = shutil.which(name)
    if found is not None:
        return found
    folders = sorted(Path("/").glob(POSTGRESQL_FOLDERS[1:]), reverse=True)
    return next((str(folder / name) for folder in folders if (folder / name).exists()), None)


@contextmanager
def redis_server(folder: Path, appendfsync: str) -> Iterator[Path]:
    """A Redis that keeps an append-only file; its socket."""
    socket = folder / "redis"
    words = [
        *(str(find_program("redis-server")), "--port", "0", "--unixsocket", str(socket)),
        *("--dir", str(folder), "--save", "", "--appendonly", "yes"),
        *("--appendfsync", appendfsync),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(socket.exists, process)
        yield socket
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


@contextmanager
def postgresql_server(folder: Path) -> Iterator[tuple[Path, str]]:
    """A PostgreSQL with the settings that it comes with; the folder of its socket, and a user."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:  # it does not run as root
        user = "postgres"
        shutil.chown(folder, user)
        folder.parent.chmod(0o711)
    data = folder / "data"
    _run(user, "initdb", "-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8")
    words = [str(find_program("postgres")), "-D", str(data), "-k", str(folder), "-h", ""]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user
    )
    try:
        _wait(lambda: _accepts(data / "postmaster.pid"), process)
        yield folder, user
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


def _accepts(pid_file: Path) -> bool:
    """Whether the server whose file this is takes connections by now: its last line says so."""
    try:
        return pid_file.read_text().split()[-1:] == ["ready"]
    except OSError:
        return False


def _run(user: str, name: str, *words: str) -> None:
    program = str(find_program(name))
    done = subprocess.run(
        [program, *words], user=user, cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2_000:]}")


def _wait(is_there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + START_S_MAX
    while not is_there():
        if process.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(f"{process.args!r} does not start: {process.poll()}")
        time.sleep(0.02)
