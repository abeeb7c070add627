"""An object's storage belongs to the thread of its loop."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

import durable


class Thrower(durable.DurableObject):
    async def put_elsewhere(self) -> None:
        await anyio.to_thread.run_sync(self.ctx.storage.put, "key", 1)

    async def keys(self) -> list[str]:
        return list(await self.ctx.storage.list())


async def test_a_write_from_another_thread_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    """At the call, before anything is written."""
    async with durable.open(tmp_path / "store") as runtime:
        stub = runtime.namespace(Thrower).get_by_name("a")
        with pytest.raises(durable.WrongLoop, match="belongs to the event loop that opened it"):
            await stub.put_elsewhere()

        assert await stub.keys() == []
