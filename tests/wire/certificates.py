"""Certificates for tests: an authority of the test's own, and what it has signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from durable import PeersTls

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_tls(folder: Path, name: str = "authority") -> PeersTls:
    """The two sides of one process, whose certificate a new authority has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the command openssl is needed to make certificates")

    def run(*args: str) -> None:
        subprocess.run([openssl, *args], cwd=folder, check=True, capture_output=True)

    def request(made: str, *more: str) -> None:
        run("req", *_CURVE, "-keyout", f"{made}.key", "-subj", f"/CN={made}", *more)

    request(name, "-x509", "-out", f"{name}.pem")
    request(f"{name}-peer", "-out", f"{name}-peer.csr")
    signs = ("-CA", f"{name}.pem", "-CAkey", f"{name}.key", "-CAcreateserial")
    run("x509", "-req", "-in", f"{name}-peer.csr", *signs, "-out", f"{name}-peer.pem")
    return PeersTls.from_files(
        folder / f"{name}-peer.pem", folder / f"{name}-peer.key", folder / f"{name}.pem"
    )
