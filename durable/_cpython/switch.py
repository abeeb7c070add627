"""The switch that does without what is borrowed from CPython: `DURABLE_CPYTHON=0`."""

from __future__ import annotations

import os
import sys
from typing import Final

BORROWS: Final = (
    sys.implementation.name == "cpython" and os.environ.get("DURABLE_CPYTHON", "1") != "0"
)
