"""Peers in a configuration file and in `durable.open`."""

from __future__ import annotations

from pathlib import Path

import pytest

import durable
from durable import InvalidConfig
from durable._deploy.config import read_config
from durable._deploy.loading import store_folder
from tests.wire.certificates import make_tls

SECRET = "the secret of sixteen bytes and more"
URL = "postgresql://db.example/app"
PEERS = durable.Peers(listen="127.0.0.1:7070", secret=SECRET)


def write(folder: Path, text: str) -> Path:
    file = folder / "durable.toml"
    file.write_text(f'name = "shop"\npath = "{URL}"\n{text}', encoding="utf-8")
    return file


def test_a_file_says_how_processes_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    file = write(
        tmp_path,
        '[peers]\nlisten = "0.0.0.0:7070"\nadvertise = "10.0.0.5:7070"\nsecret = "SHOP_SECRET"\n'
        '[env.staging.peers]\nlisten = "127.0.0.1:7071"\nsecret = "SHOP_SECRET"\n[env.other]\n',
    )
    config = read_config(file)
    peers = config.script.peers
    staging = read_config(file, "staging").script.peers
    other = read_config(file, "other").script.peers

    assert peers == durable.Peers(listen="0.0.0.0:7070", advertise="10.0.0.5:7070", secret=SECRET)
    assert staging is not None
    assert staging.listen == "127.0.0.1:7071"
    assert other == peers
    assert store_folder(config, None) == URL


def test_a_file_names_the_files_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where it is itself."""
    make_tls(tmp_path)
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    table = '[peers]\nlisten = "127.0.0.1:7070"\nsecret = "SHOP_SECRET"\n'
    tls = '[peers.tls]\ncertificate = "authority-peer.pem"\nauthority = "authority.pem"\nkey = '
    peers = read_config(write(tmp_path, f'{table}{tls}"authority-peer.key"')).script.peers

    assert peers is not None
    assert peers.tls is not None
    with pytest.raises(InvalidConfig, match=r"\[peers.tls\].*missing.key"):
        read_config(write(tmp_path, f'{table}{tls}"missing.key"'))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('secret = "SHOP_SECRET"', r"listen: it is missing"),
        ('listen = "127.0.0.1:7070"', r"secret: it is missing"),
        ('listen = "127.0.0.1:7070"\nsecret = "UNSET"', r"variable 'UNSET'.* is not set"),
        ('listen = "0.0.0.0:7070"\nsecret = "SHOP_SECRET"', r"Peers.advertise is missing"),
        ('listen = "127.0.0.1:7070"\nsecret = "SHORT"', r"16 bytes or more"),
        ('listen = "127.0.0.1:7070"\nsecert = "SHOP_SECRET"', r"did you mean 'secret'"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, says: str
) -> None:
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.delenv("UNSET", raising=False)
    with pytest.raises(InvalidConfig, match=says):
        read_config(write(tmp_path, f"[peers]\n{table}"))


def test_peers_are_for_a_store_on_postgresql(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="peers is for a store on PostgreSQL"):
        durable.open(tmp_path / "state", peers=PEERS)
    with pytest.raises(TypeError, match=r"peers must be a durable\.Peers"):
        durable.open(URL, peers="127.0.0.1:7070")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shared is for a folder"):
        durable.open(URL, peers=PEERS, shared=True)
    with pytest.raises(ValueError, match="leave out peers"):
        durable.open(URL, peers=PEERS, scratch=True)
