"""How many references there are to an object.

Relies on `sys.getrefcount`, which counts those of the caller's frame too, and not in the same way
in each version: so compare counts of one caller, and never a count with a number. Versions: CPython
3.11 to 3.14. Without it each count is higher by two than the one before: as though other code had
kept the object, even if the caller takes one off that is its own.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from .switch import BORROWS

_rising = itertools.count(step=2)


def _ever_more(value: object) -> int:
    return next(_rising)


references: Callable[[Any], int] = sys.getrefcount if BORROWS else _ever_more
