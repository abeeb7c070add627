"""A program run in a process of its own and killed at a random moment."""

from __future__ import annotations

import json
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEGINS_S_MAX = 120  # on a machine that is busy with other tests; it takes less than a second


def run_and_kill(
    program: str, store: Path | str, seed: int, *, objects: int, run_s_max: float
) -> dict[str, list[Any]]:
    """Run the program, kill it at a random moment; the last thing it was told of each object."""
    backend = "trio" if seed % 2 else "asyncio"
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [
            sys.executable, "-X", "faulthandler", "-c", program,
            str(store), str(seed), str(objects), root, backend,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], BEGINS_S_MAX)
        if not readable:
            process.send_signal(signal.SIGABRT)  # it says where it stands
            raise AssertionError(f"the program did not begin: {process.communicate()[1].decode()}")
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
