"""The table `[peers]` of a configuration file: how the processes of several machines meet.

A file is not a place for a secret: the table has the name of an environment variable.
"""

from __future__ import annotations

import os
import ssl

from durable._model.peers import Peers, PeersTls

from .config_table import Table

KEYS = ("listen", "advertise", "secret", "tls")
TLS_KEYS = ("certificate", "key", "authority")


def peers_of(table: Table) -> Peers | None:
    """The `Peers` that *table* describes; None if it has none. Raises InvalidConfig."""
    if "peers" not in table.entries:
        return None
    peers = table.table("peers").check_keys(KEYS)
    listen = peers.text("listen", is_required=True)
    assert listen is not None
    advertise, secret, tls = peers.text("advertise"), _secret(peers), _tls(peers)
    try:
        return Peers(listen=listen, advertise=advertise, secret=secret, tls=tls)
    except ValueError as error:
        raise peers.error(None, str(error)) from error


def _secret(peers: Table) -> str:
    name = peers.text("secret", is_required=True)
    assert name is not None
    secret = os.environ.get(name)
    if not secret:
        raise peers.error(
            "secret",
            f"the environment variable {name!r}, which is to hold the secret, is not set; secret "
            f"is the name of a variable, not the secret",
        )
    return secret


def _tls(peers: Table) -> PeersTls | None:
    if "tls" not in peers.entries:
        return None
    tls = peers.table("tls").check_keys(TLS_KEYS)
    folder = tls.file.absolute().parent
    paths = [folder / (tls.text(key, is_required=True) or "") for key in TLS_KEYS]
    try:
        return PeersTls.from_files(*paths)
    except (OSError, ssl.SSLError) as error:
        raise tls.error(None, str(error)) from error
