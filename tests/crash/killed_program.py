"""A program run in a process of its own and killed at a random moment."""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run_and_kill(
    program: str, folder: Path, seed: int, *, objects: int, run_s_max: float
) -> dict[str, list[Any]]:
    """Run the program, kill it at a random moment; the last thing it was told of each object."""
    backend = "trio" if seed % 2 else "asyncio"
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(seed), str(objects), root, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 30)
        assert readable, "the program did not begin"
        time.sleep(random.Random(seed).uniform(0, run_s_max))
    finally:
        process.kill()
    out, err = process.communicate()
    assert out, err.decode()
    told: dict[str, list[Any]] = {}
    for line in out.splitlines(keepends=True):
        if line.endswith(b"\n"):  # the last one may be torn
            name, *answer = json.loads(line)
            told[name] = answer
    return told
