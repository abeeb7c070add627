"""`durable.testing.open`: `durable.open`, and faults."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve

from durable._runtime.opening import open as open_store

from .faults import Faults


class open(open_store):
    """`durable.open` with *faults*, by which a test controls the disk."""

    def __init__(
        self, path: str | os.PathLike[str], *, faults: Faults | None = None, **options: Any
    ) -> None:
        super().__init__(path, **options)
        self._options = evolve(self._options, faults=faults)
        self._faults = faults

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            if self._faults is not None:
                self._faults.power_is_back()
