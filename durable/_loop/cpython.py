"""What is borrowed from CPython beyond what Python promises, and the switch that does without.

With `DURABLE_CPYTHON=0` in the environment, and on every other interpreter, each borrower takes its
fallback: slower or less exact, and never wrong. The borrowers are found by `BORROWS`.

| borrowed | for | fallback |
| --- | --- | --- |
| the mark of a finalized object (`_gates/burial.py`) | freeing buried code | it is kept |
| a task's reference count (`_gates/executor.py`) | whether it is known | it serves one delivery |
| what a coroutine refers to (`_loop/sleeping.py`) | its timer | it runs out in the loop |
"""

from __future__ import annotations

import os
import sys
from typing import Final

BORROWS: Final = (
    sys.implementation.name == "cpython" and os.environ.get("DURABLE_CPYTHON", "1") != "0"
)
