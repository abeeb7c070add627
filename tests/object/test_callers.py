"""Who called is known while the call is under way, and not kept after it."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest

import durable
from durable._object.invocation import Invocation


class Beat(durable.DurableObject):
    """Goes on by calling a partner, and does not wait for it."""

    most = 0
    done: anyio.Event

    async def beat(self, left: int) -> None:
        if left % 100 == 0:
            gc.collect()
            alive = sum(isinstance(each, Invocation) for each in gc.get_objects())
            Beat.most = max(Beat.most, alive)
        if left == 0:
            Beat.done.set()
            return
        self.env.BEATS.get_by_name(str(left % 2)).beat(left - 1)
        if left % 3 == 0:
            raise LookupError("a call that fails keeps its caller no longer")


@pytest.mark.parametrize("observer", [None, lambda event: None])
async def test_an_object_that_goes_on_by_calling_itself_keeps_no_chain_of_callers(
    tmp_path: Any, observer: Any
) -> None:
    """Memory stays as it is, and so does the time of whatever walks to the callers."""
    Beat.most, Beat.done = 0, anyio.Event()
    async with durable.open(tmp_path, bindings={"BEATS": Beat}, observer=observer) as runtime:
        runtime.env.BEATS.get_by_name("0").beat(500)
        await Beat.done.wait()

    assert 0 < Beat.most < 20
