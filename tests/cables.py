"""A cable between two ends of TCP connections, which a test cuts."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Cable:
    """A proxy between two processes, which can be cut: nothing passes then, and no packet says
    so."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.is_cut = False
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            try:
                other = socket.create_connection(self._target)
            except OSError:  # nobody is there
                one.close()
                continue
            self._sockets += [one, other]
            for pair in ((one, other), (other, one)):
                thread = threading.Thread(target=self._pump, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        while True:
            try:
                read = source.recv(65_536)
                if not self.is_cut:
                    if not read:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(read)
                elif not read:
                    return
            except OSError:
                # A reset by one end ends the connection for the other one, as without a cable.
                if not self.is_cut:
                    with suppress(OSError):
                        target.shutdown(socket.SHUT_RDWR)
                return

    def break_(self) -> None:
        """End all connections that go through it; new ones can be made."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take it away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()
