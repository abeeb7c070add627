"""What is no limits, clock, codec or observer is refused at the call, before there is a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import durable
from durable._engine.codec import MsgpackCodec
from durable.testing import VirtualClock

pytestmark = pytest.mark.backends("asyncio", "trio")


@pytest.mark.parametrize(
    ("name", "part", "text"),
    [
        ("limits", {"key_size_max": 5}, "limits must be a durable.Limits"),
        ("limits", durable.Limits, "limits must be a durable.Limits"),
        ("clock", time, "clock must be an object with the methods of durable.Clock"),
        ("clock", VirtualClock, "clock must be an object with the methods of durable.Clock"),
        ("codec", 5, "codec must be an object with the methods of durable.Codec"),
        ("codec", MsgpackCodec, "codec must be an object with the methods of durable.Codec"),
        ("observer", "print", "an observer is a callable"),
    ],
)
async def test_what_is_none_is_refused_at_the_call(
    tmp_path: Path, name: str, part: Any, text: str
) -> None:
    """Nothing is opened, and the folder is free for the next attempt."""
    with pytest.raises(TypeError, match=text):
        durable.open(tmp_path / "new", **{name: part})
    assert not (tmp_path / "new").exists()

    async with durable.open(tmp_path / "new"):
        pass
