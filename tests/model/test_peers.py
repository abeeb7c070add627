"""`durable.Peers`: what is missing or wrong is said where it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import durable
from durable._model.addresses import Address

SECRET = "the secret of sixteen bytes and more"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5:7070", "10.0.0.5", 7070),
        ("[::]:7070", "::", 7070),
        ("[fd00::5]:0", "fd00::5", 0),
        ("db-1.example:65535", "db-1.example", 65535),
    ],
)
def test_addresses_are_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = Address.of(text, "it")

    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"listen": 7070}, TypeError, "Peers.listen must be a text"),
        ({"listen": "7070"}, ValueError, "a host and a port"),
        ({"listen": "127.0.0.1"}, ValueError, "a host and a port"),
        ({"listen": ":7070"}, ValueError, "a host and a port"),
        ({"listen": "::1:7070"}, ValueError, "in brackets"),
        ({"listen": "127.0.0.1:http"}, ValueError, "a port from 0 to 65535"),
        ({"listen": "127.0.0.1:65536"}, ValueError, "a port from 0 to 65535"),
        ({"listen": "http://127.0.0.1:80"}, ValueError, "in brackets"),
        ({"listen": "user@host:80"}, ValueError, "a host and a port"),
        ({"listen": "0.0.0.0:7070"}, ValueError, "Peers.advertise is missing"),
        ({"listen": "[::]:7070"}, ValueError, "Peers.advertise is missing"),
        ({"advertise": "0.0.0.0:7070"}, ValueError, "other machines can connect to"),
        ({"advertise": "10.0.0.5"}, ValueError, "Peers.advertise must be a host and a port"),
        ({"secret": "short"}, ValueError, "16 bytes or more, and has 5"),
        ({"secret": ""}, ValueError, "16 bytes or more, and has 0"),
        ({"secret": None}, TypeError, "Peers.secret must be a text or bytes"),
        ({"tls": True}, TypeError, "Peers.tls must be a durable.PeersTls"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        durable.Peers(**{"listen": "127.0.0.1:7070", "secret": SECRET, **options})


def test_the_secret_is_shown_nowhere() -> None:
    peers = durable.Peers(listen="127.0.0.1:7070", secret=SECRET)

    assert SECRET not in repr(peers)
    with pytest.raises(ValueError) as caught:
        durable.Peers(listen="127.0.0.1:7070", secret="too short")
    assert "too short" not in str(caught.value)


def test_a_port_that_the_system_chooses_is_advertised() -> None:
    behind = durable.Peers(listen="0.0.0.0:0", advertise="10.0.0.5:0", secret=SECRET)
    mapped = durable.Peers(listen="0.0.0.0:7070", advertise="10.0.0.5:8080", secret=SECRET)

    assert durable.Peers(listen="[::1]:0", secret=SECRET).advertised(7071) == "[::1]:7071"
    assert behind.advertised(7071) == "10.0.0.5:7071"
    assert mapped.advertised(7070) == "10.0.0.5:8080"


def test_a_file_of_tls_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"peer\.pem"):
        durable.PeersTls.from_files(tmp_path / "peer.pem", tmp_path / "key", tmp_path / "authority")


def test_tls_is_of_two_contexts() -> None:
    with pytest.raises(TypeError, match=r"PeersTls\.server must be an ssl\.SSLContext"):
        durable.PeersTls("certificate.pem", "key.pem")  # type: ignore[arg-type]
