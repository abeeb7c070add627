"""The soak runs, for two seconds here; whether the figures stay flat takes longer to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import RISES, Sample, Soak, report

pytestmark = pytest.mark.backends("asyncio", "trio")


async def test_a_short_soak_has_all_its_figures(tmp_path: Path) -> None:
    """Every kind of call was made, and no reader slot was left behind."""
    soak = Soak(minutes=2 / 60)
    await soak.run(tmp_path / "store", is_loud=False)

    assert sum(soak.counts.values()) > 100
    assert len(soak.samples) > 1
    assert max(sample.readers for sample in soak.samples) <= 2  # of the loop, and of who looks
    assert all(name in report(soak) for name in RISES)


@pytest.mark.backends("asyncio")
async def test_what_rises_is_said_to_rise() -> None:
    """A leak of a tenth is noticed."""
    soak = Soak(minutes=1)
    for number in range(20):
        memory = 100_000_000 + number * 2_000_000
        soak.samples.append(Sample(number, memory, 1, 1, 1, 1, 1, 1.0, 1.0))

    flat = {name: is_flat for name, (_, _, is_flat) in soak.verdict().items()}
    assert not flat.pop("memory")
    assert all(flat.values())
