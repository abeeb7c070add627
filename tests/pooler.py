"""`pytest --pooler`: every store of the tests' PostgreSQL is reached through a pgbouncer that hands
out sessions for one transaction at a time.

It has fewer sessions with the database than a store has connections, so that statements of one
connection meet now this session and now that one. Where there is no pgbouncer this is said, and the
tests go without.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from attrs import define, field

from tests import postgres

MISSING = (
    "pgbouncer is not installed here; the tests connect with PostgreSQL itself; "
    "on Debian `apt-get install pgbouncer`"
)
_SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server} user=tests
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 1000
server_lifetime = 5
ignore_startup_parameters = extra_float_digits
"""


def program() -> str | None:
    """Where pgbouncer is; Debian has it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@define(eq=False)
class Pooler:
    """A pooler of *server* that runs."""

    server: postgres.Server
    port: int = field(factory=postgres.free_port)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        found = program()
        assert found is not None, MISSING
        settings = self.server.folder / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server=self.server.port, port=self.port))
        log = self.server.folder / "pgbouncer.log"
        self._process = postgres.start_server([found, settings], log)
        self._wait_ready(log)

    def _wait_ready(self, log: Path) -> None:
        until_s = time.monotonic() + postgres.START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"pgbouncer has not started: {log.read_text()}") from None
                time.sleep(0.02)

    def url(self, direct: str) -> str:
        """That of a database of the server, through the pooler."""
        return direct.replace(f":{self.server.port}/", f":{self.port}/")

    def close(self) -> None:
        self._process.send_signal(signal.SIGQUIT)  # at once
        self._process.wait()


def install() -> None:
    """Let all stores of this process's servers be reached so from now on, if there is a pooler."""
    if program() is None:
        return
    direct = postgres.Server.new_store
    poolers: dict[postgres.Server, Pooler] = {}

    def new_store(self: postgres.Server) -> str:
        if self not in poolers:
            poolers[self] = Pooler(self)
            atexit.register(poolers[self].close)
        return poolers[self].url(direct(self))

    postgres.Server.new_store = new_store  # type: ignore[method-assign]
