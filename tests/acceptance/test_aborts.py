"""An object that aborts itself: whatever its code does about it, its caller gets the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import durable


class Quitter(durable.DurableObject):
    """Aborts, and goes on as if nothing had been."""

    async def write_and_quit(self) -> str:
        self.ctx.storage.put("written", True)
        try:
            self.ctx.abort("I quit")
        except BaseException:
            pass
        return "never heard"

    async def fail_instead(self) -> None:
        self.ctx.storage.put("written", True)
        try:
            self.ctx.abort("I quit")
        except BaseException:
            raise LookupError("never heard") from None

    def leave_work_behind(self) -> None:
        self.ctx.wait_until(anyio.sleep(0))
        self.ctx.abort("I quit")

    async def written(self) -> bool:
        return await self.ctx.storage.get("written", False)


@pytest.fixture
async def quitters(tmp_path: Path) -> AsyncIterator[durable.Namespace[Quitter]]:
    async with durable.open(tmp_path / "store") as runtime:
        yield runtime.namespace(Quitter)


@pytest.mark.parametrize("how", ["write_and_quit", "fail_instead", "leave_work_behind"])
async def test_the_caller_gets_the_reason_although_the_code_caught_it(
    quitters: durable.Namespace[Quitter], how: str
) -> None:
    """And what the object wrote before is not stored."""
    with pytest.raises(durable.ObjectAborted, match="I quit"):
        await getattr(quitters.get_by_name("a"), how)()

    assert not await quitters.get_by_name("a").written()
