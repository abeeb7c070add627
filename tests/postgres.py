"""A PostgreSQL of the tests' own: started at the first use, gone with the process that used it.

Its data lie in a temporary folder. It runs as a user without rights, since PostgreSQL refuses root,
listens at a unix socket and at 127.0.0.1, at a port that the system has chosen, and writes nothing
to the disk for good unless it is asked to: tests of what survives start one with `fsync=True`.

Each worker of pytest-xdist has one. Where there are no binaries, tests that need one are skipped.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

MISSING = (
    "PostgreSQL is not installed here (initdb was looked for in PATH and in "
    "/usr/lib/postgresql); on Debian `apt-get install postgresql`"
)
START_S_MAX = 30
TEMPLATE = "template_of_stores"

# The system takes the thread that starts a process for its parent: this one lives as long as we.
_starting = ThreadPoolExecutor(1, "starts servers")


@cache
def binaries() -> Path | None:
    """The folder of initdb and postgres, of the newest version; None if there is none."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    there = Path("/usr/lib/postgresql").glob("*/bin")
    folders = [folder for folder in there if (folder / "postgres").exists()]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


def unprivileged() -> dict[str, Any]:
    """How a child process becomes a user without rights, if this one is root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("there is no user `postgres` or `nobody` to run PostgreSQL as")


def reachable() -> Path:
    """A folder that the user without rights may enter: a temporary folder of root's own is none."""
    there = Path(tempfile.gettempdir()).resolve()
    if not unprivileged() or all(each.stat().st_mode & 0o001 for each in (there, *there.parents)):
        return there
    return Path("/tmp")


def start_server(command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    """Run a server without rights, which ends by SIGINT when this process does, killed or not,
    where `setpriv` is there to ask the system for that."""
    setpriv = shutil.which("setpriv")
    ends_with_us = [] if setpriv is None else [setpriv, "--pdeathsig", "INT", "--"]

    def start() -> subprocess.Popen[bytes]:
        with open(log, "ab") as output:
            return subprocess.Popen(
                [*ends_with_us, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                **unprivileged(),
            )

    return _starting.submit(start).result()


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@define(eq=False)
class Server:
    """A server that runs. With *primary* it is a copy of another one, which follows it as its
    standby under the name `standby`."""

    fsync: bool = False
    settings: dict[str, str] = field(factory=dict)
    primary: Server | None = None
    port: int = field(factory=free_port)
    folder: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1), init=False)
    _has_template: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        assert binaries() is not None, MISSING
        self.folder = Path(tempfile.mkdtemp(prefix="durable-postgres-", dir=reachable()))
        as_user = unprivileged()
        if as_user:
            os.chown(self.folder, as_user["user"], as_user["group"])
        if self.primary is None:
            self._run(
                *("initdb", "-D", str(self.data), "-U", "tests", "-A", "trust", "--no-sync"),
                *("--encoding=UTF8", "--locale=C", "--no-instructions"),
            )
        else:
            self._run(
                *("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync"),
                *("-d", f"{self.primary.url()}?application_name=standby"),
            )
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", *, user: str = "tests") -> str:
        """By TCP; `socket_url` is by the unix socket."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        return f"postgresql://tests@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Run it, and return when it can be connected to."""
        settings = {
            "fsync": "on" if self.fsync else "off",
            "synchronous_commit": "on",
            "full_page_writes": "on" if self.fsync else "off",
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "64MB",
            "max_connections": "200",
            "log_min_messages": "fatal",
            "wal_retrieve_retry_interval": "100ms",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        found = binaries()
        assert found is not None
        command = [found / "postgres", "-D", self.data, *options]
        self.process = start_server(command, self.folder / "log")
        self._wait_ready()

    def _wait_ready(self) -> None:
        import psycopg

        until_s = time.monotonic() + START_S_MAX
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(
                        f"PostgreSQL has not started: {(self.folder / 'log').read_text()[-2_000:]}"
                    ) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT one without a word, as in a crash."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, template: str | None = None) -> str:
        """An empty database of its own, or a copy of *template*; returns its name."""
        name = f"store_{next(self._numbers)}"
        copied = "" if template is None else f" template {template}"
        self.execute(f"create database {name}{copied}")
        return name

    def new_store(self) -> str:
        """The URL of a database that has the tables of a store, and nothing in them."""
        from durable._postgres import schema
        from durable._postgres.connection import Connection

        if not self._has_template:
            self.execute(f"create database {TEMPLATE}")
            connection = Connection(self.url(TEMPLATE))
            try:
                schema.make(connection)
            finally:
                connection.close()
            self._has_template = True
        return self.url(self.new_database(TEMPLATE))

    def drop(self, url: str) -> None:
        """Delete the database of *url*, whoever is connected to it."""
        self.execute(f"drop database {url.rsplit('/', 1)[1]} with (force)")

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement in a connection of its own."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        found = binaries()
        assert found is not None
        done = subprocess.run(
            [found / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **unprivileged(),
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")


def is_there() -> bool:
    """Whether a server can be started here."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return binaries() is not None


@cache
def server() -> Server:
    """The one server of this process. Skips the test where there can be none."""
    if not is_there():
        pytest.skip(MISSING)
    started = Server()
    atexit.register(started.close)
    return started


@contextmanager
def store_url() -> Iterator[str]:
    """The URL of an empty store, which is gone after the block."""
    url = server().new_store()
    try:
        yield url
    finally:
        server().drop(url)
