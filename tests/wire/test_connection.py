"""When frames leave: at once, together, or before what takes long."""

from __future__ import annotations

import socket

import anyio
import pytest

from durable._loop.loop import which_backend
from durable._loop.open_loop import make_loop
from durable._wire import connection as connection_module
from durable._wire.connection import WAITS_S_MAX, Connection

pytestmark = pytest.mark.anyio


def arrived(sock: socket.socket) -> bytes:
    """What can be read at once."""
    try:
        return sock.recv(65_536)
    except BlockingIOError:
        return b""


async def test_frames_leave_at_once_together_or_before_what_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that one who waits for an answer need not idle while other objects compute."""
    now_s = 0.0
    monkeypatch.setattr(connection_module, "steady", lambda: now_s)
    loop = make_loop(which_backend())
    await loop.open()
    near, far = socket.socketpair()
    far.setblocking(False)
    connection = Connection(loop, near, lambda frame: None, lambda why: None)
    try:
        connection.send(b"first")
        assert arrived(far) == b"first"
        connection.send(b"two,")
        connection.send(b"three")
        assert arrived(far) == b""
        await anyio.wait_all_tasks_blocked()
        assert arrived(far) == b"two,three"
        connection.send(b"four,")
        now_s += 2 * WAITS_S_MAX
        connection.send(b"five")
        assert arrived(far) == b"four,five"
        connection.send(b"six")
        assert arrived(far) == b""
        await anyio.wait_all_tasks_blocked()
        assert arrived(far) == b"six"
    finally:
        connection.close()
        far.close()
        await loop.close()
