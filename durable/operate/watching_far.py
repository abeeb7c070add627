"""Connections to processes of other machines, to watch them: over the TCP by which the processes of
the store meet, and authenticated as these are."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import Final

from durable._engine.shards import Process
from durable._model.addresses import Address
from durable._model.peers import Peers
from durable._wire.authentication import WATCHES, NotAuthentic, Refused, Steps, connecting

# To connect, to agree on keys, and to authenticate.
CONNECT_S_MAX: Final = 5.0


def connect(process: Process, peers: Peers) -> socket.socket:
    """A connection to *process* that knows the secret of *peers*, as this one does. Raises
    OSError."""
    address = Address.of(process.address, "the address of a process")
    connection = socket.create_connection((address.host, address.port), CONNECT_S_MAX)
    try:
        if peers.tls is not None:
            connection = peers.tls.client.wrap_socket(connection, server_hostname=address.host)
        me = f"{WATCHES}{os.getpid()}-{secrets.token_hex(8)}"
        _authenticate(connection, connecting(peers.secret, me, process.id))
    except BaseException as error:
        with suppress(OSError):
            connection.close()
        if isinstance(error, NotAuthentic | Refused):
            raise ConnectionError(f"process {process.pid} at {address}: {error}") from error
        raise
    connection.settimeout(None)
    return connection


def _authenticate(connection: socket.socket, steps: Steps) -> None:
    with suppress(StopIteration):
        step = next(steps)
        while True:
            connection.sendall(step.send)
            step = steps.send(_read(connection, step.read))


def _read(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        received = connection.recv(size - len(read))
        if not received:
            raise ConnectionError("it has closed the connection")
        read += received
    return read
