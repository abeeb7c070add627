"""Servers with several workers: each has the store, and each request finds its object."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from .servers import COMMANDS, serving

COMMANDS["uvicorn-workers"] = [*COMMANDS["uvicorn"], "--workers", "3"]
COMMANDS["hypercorn-workers"] = [*COMMANDS["hypercorn"], "--workers", "3"]
COMMANDS["gunicorn-workers"] = [*COMMANDS["gunicorn"], "--workers", "3"]
COMMANDS["granian-workers"] = [*COMMANDS["granian"], "--workers", "3"]


@pytest.mark.parametrize(
    "name", ["uvicorn-workers", "hypercorn-workers", "gunicorn-workers", "granian-workers"]
)
def test_all_workers_of_a_server_share_a_store(tmp_path: Path, name: str) -> None:
    """Requests come to any of them, and count on in one object; those that a worker had which is
    killed go on elsewhere."""
    counts: dict[str, int] = {}
    workers: set[str] = set()
    places: set[str] = set()

    def count(path: str) -> None:
        response = httpx.get(f"{server.url}/{path}", timeout=20)
        value, place, worker = response.text.split()
        counts[path] = counts.get(path, 0) + 1
        assert int(value) == counts[path]
        workers.add(worker)
        places.add(place)

    with serving(name, "entry:shared_workers", tmp_path) as server:
        end_s = time.monotonic() + 30
        while len(workers) < 2 or len(places) < 2:
            for number in range(12):
                count(str(number))
            assert time.monotonic() < end_s, (workers, places)
        # hypercorn ends all workers when one has died, and so does granian.
        if name not in {"hypercorn-workers", "granian-workers"}:
            os.kill(int(places.pop()), signal.SIGKILL)
            for number in range(12):
                count(str(number))
        server.stop(signal.SIGTERM)
        logged = server.log.read_text()
        assert "Traceback" not in logged, logged
