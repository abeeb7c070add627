"""What the tests of the command line share: none leaves a process behind, however it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those that a test has begun are killed at its end, if they still run."""
    begun: list[subprocess.Popen[Any]] = []

    class Begun(subprocess.Popen[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Begun)
    yield
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.wait()
