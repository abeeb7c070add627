"""Sockets that a forked child does not keep: when their process ends, the other sides notice at
once, whatever its children do."""

from __future__ import annotations

import os
import socket
from weakref import WeakSet

_sockets: WeakSet[socket.socket] = WeakSet()


def keep_from_children(sock: socket.socket) -> None:
    """Close *sock* in each child that is forked from now on; here it stays open."""
    _sockets.add(sock)


def _close_in_child() -> None:
    for sock in list(_sockets):
        sock.close()
    _sockets.clear()


os.register_at_fork(after_in_child=_close_in_child)
