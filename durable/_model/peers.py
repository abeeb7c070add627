"""How the processes of a store on several machines meet: where one listens, and what all know."""

from __future__ import annotations

import os
import ssl

from attrs import Attribute, field, frozen

from .addresses import Address

SECRET_SIZE_MIN = 16


@frozen
class PeersTls:
    """The two sides of TLS between the processes of a store. Each process is both.

    `PeersTls.from_files` makes them of a certificate, its key and the authority that has signed the
    certificates of all processes.
    """

    server: ssl.SSLContext = field()
    client: ssl.SSLContext = field()

    @server.validator
    @client.validator
    def _check_side(self, attribute: Attribute[ssl.SSLContext], value: object) -> None:
        if not isinstance(value, ssl.SSLContext):
            raise TypeError(f"PeersTls.{attribute.name} must be an ssl.SSLContext, not {value!r}")

    @classmethod
    def from_files(
        cls,
        certificate: str | os.PathLike[str],
        key: str | os.PathLike[str],
        authority: str | os.PathLike[str],
    ) -> PeersTls:
        """TLS 1.3 with the certificate of this process and its key, for peers whose certificates
        *authority* has signed: each side asks for the other's. Three files in PEM format.

        The names in the certificates are not compared with addresses: let *authority* be one that
        signs for the processes of this store alone. Raises OSError, which names the file, and
        ssl.SSLError where a file holds something else.
        """
        for path in (certificate, key, authority):
            with open(path, "rb"):
                pass  # an error of the ssl module does not say which file is missing
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile=authority)
            context.load_cert_chain(certificate, key)
        return cls(server, client)


def _secret(value: object) -> bytes:
    if not isinstance(value, str | bytes):
        raise TypeError(f"Peers.secret must be a text or bytes, not {type(value).__name__}")
    secret = value.encode() if isinstance(value, str) else value
    if len(secret) < SECRET_SIZE_MIN:
        raise ValueError(
            f"Peers.secret must have {SECRET_SIZE_MIN} bytes or more, and has {len(secret)}; make "
            f"one with `python -c 'import secrets; print(secrets.token_urlsafe())'` and give it to "
            f"all processes of the store"
        )
    return secret


@frozen(kw_only=True)
class Peers:
    """How this process and the others of a store on several machines meet.

        durable.Peers(listen="0.0.0.0:7070", advertise="10.0.0.5:7070", secret=SECRET)

    *listen*: the host and the port to listen at, `[::]:7070` for every address of IPv6 and IPv4;
    port 0 is one that the system chooses. *advertise*: where the others reach this process, if that
    is not *listen*; port 0 stands for the port that is listened at. *secret*: known to the store's
    processes only, 16 bytes or more; each side proves that it knows it, and it is never sent.
    *tls*: encrypts the connections. Without it the network between the machines must be trusted: it
    can then read and alter everything that is sent.

    Raises TypeError and ValueError where something is missing or wrong.
    """

    listen: str
    secret: bytes = field(converter=_secret, repr=False)
    advertise: str | None = None
    tls: PeersTls | None = None

    def __attrs_post_init__(self) -> None:
        listen = Address.of(self.listen, "Peers.listen")
        if self.advertise is not None:
            advertise = Address.of(self.advertise, "Peers.advertise")
            if advertise.is_any:
                raise ValueError(
                    f"Peers.advertise must be an address that other machines can connect to, and "
                    f"{self.advertise!r} stands for all addresses of a machine"
                )
        elif listen.is_any:
            raise ValueError(
                f"Peers.advertise is missing: {self.listen!r} stands for all addresses of this "
                f"machine, and the others have to know one, such as '10.0.0.5:{listen.port}'"
            )
        if self.tls is not None and not isinstance(self.tls, PeersTls):
            raise TypeError(
                f"Peers.tls must be a durable.PeersTls, such as PeersTls.from_files(certificate, "
                f"key, authority), not {self.tls!r}"
            )

    def advertised(self, port: int) -> str:
        """Where the others reach this process, which listens at *port*."""
        text = self.listen if self.advertise is None else self.advertise
        address = Address.of(text, "Peers.advertise")
        return str(Address(address.host, address.port or port))
