"""Addresses of processes on a network: a host and a port, in the form that people write."""

from __future__ import annotations

from attrs import frozen

PORT_MAX = 65_535
# A process that listens at one of these listens at every address of its machine.
_ANY = frozenset({"0.0.0.0", "::"})


@frozen
class Address:
    """A host, by name or number, and a port; 0 is one that the system chooses."""

    host: str
    port: int

    @classmethod
    def of(cls, text: object, what: str) -> Address:
        """The address in *text*, such as `10.0.0.5:7070` or `[fd00::5]:7070`.

        TypeError or ValueError, naming *what*, if there is none.
        """
        if not isinstance(text, str):
            raise TypeError(f"{what} must be a text such as '10.0.0.5:7070', not {text!r}")
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(
                f"{what} must have an IPv6 address in brackets, such as '[::]:7070', not {text!r}"
            )
        if not colon or not host or any(sign.isspace() or sign in "[]/@" for sign in host):
            raise ValueError(
                f"{what} must be a host and a port, such as '10.0.0.5:7070' or '[::]:7070', "
                f"not {text!r}"
            )
        if not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
            raise ValueError(f"{what} must end with a port from 0 to 65535, not with {port!r}")
        return cls(host, int(port))

    @property
    def is_any(self) -> bool:
        """Whether it stands for all addresses of its machine."""
        return self.host in _ANY

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
