"""Makes the loop of the backend that runs."""

from __future__ import annotations

import importlib

from .asyncio_loop import AsyncioLoop
from .loop import Loop


def make_loop(backend: str) -> Loop:
    """The running loop, as the library needs it."""
    if backend == "asyncio":
        return AsyncioLoop()
    # By name, since Trio is installed only where programs run on it.
    loop: Loop = importlib.import_module("durable._loop.trio_loop").TrioLoop()
    return loop
