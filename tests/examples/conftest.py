"""The programs in docs/examples, each opened as a store of the test's own, with a clock to turn."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import durable
from durable.testing import VirtualClock
from durable.testing import open as open_for_test

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def load(name: str) -> Any:
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def options() -> dict[str, Any]:
    """How a test's module has its store opened: at least its bindings."""
    raise NotImplementedError


@pytest.fixture
async def runtime(
    tmp_path: Path, clock: VirtualClock, options: dict[str, Any]
) -> AsyncIterator[durable.Runtime]:
    async with open_for_test(tmp_path / "store", clock=clock, **options) as runtime:
        yield runtime
