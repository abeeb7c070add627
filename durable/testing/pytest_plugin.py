"""The pytest plugin: a fresh store for each test, and a clock that the test moves.

    async def test_it_counts(durable_runtime: durable.Runtime) -> None:
        assert await durable_runtime.namespace(Counter).get_by_name("a").increment() == 1

It serves tests that anyio's plugin or pytest-asyncio runs, each on the loop of the test.

Rule: nothing of the library is imported before a fixture is used, since every pytest run loads this
file where the library is installed. So it is installed beside the package, as
`durable_pytest_plugin`.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable import Runtime
    from durable.testing import Faults, VirtualClock

BY_ANYIO = "durable_runtime_by_anyio"
BY_PYTEST_ASYNCIO = "durable_runtime_by_pytest_asyncio"


@pytest.fixture
def durable_clock() -> VirtualClock:
    """The clock of `durable_runtime`; it stands still until `await durable_clock.advance(s)`."""
    clock: VirtualClock = importlib.import_module("durable.testing").VirtualClock()
    return clock


@pytest.fixture
def durable_faults() -> Faults:
    """The faults of `durable_runtime`: hold its commits, let them fail, cut its power."""
    faults: Faults = importlib.import_module("durable.testing").Faults()
    return faults


@pytest.fixture
def durable_options() -> dict[str, Any]:
    """Further options for opening the store, as `durable.open` takes them; override it to bind
    classes to names of `env`."""
    return {}


@pytest.fixture
def durable_runtime(request: pytest.FixtureRequest) -> Runtime:
    """A store of the test's own, open on its loop; gone after the test, alarms and all."""
    if "anyio_backend" in request.fixturenames:
        name = BY_ANYIO
    elif request.config.pluginmanager.hasplugin("asyncio"):
        name = BY_PYTEST_ASYNCIO
    else:
        raise pytest.UsageError(
            "durable_runtime is for async tests: mark this one with `pytest.mark.anyio`, set "
            "anyio_mode = auto, or install pytest-asyncio"
        )
    runtime: Runtime = request.getfixturevalue(name)
    return runtime


async def _open(
    tmp_path: Path,
    durable_clock: VirtualClock,
    durable_faults: Faults,
    durable_options: dict[str, Any],
) -> AsyncIterator[Runtime]:
    testing = importlib.import_module("durable.testing")
    options = {"clock": durable_clock, "faults": durable_faults, **durable_options}
    async with testing.open(tmp_path / "durable", **options) as runtime:
        yield runtime


durable_runtime_by_anyio: Any = pytest.fixture(name=BY_ANYIO)(_open)


def pytest_configure(config: pytest.Config) -> None:
    """With pytest-asyncio, register a fixture that it recognizes as its own."""
    if config.pluginmanager.hasplugin("asyncio"):
        fixtures = types.ModuleType("durable_fixtures_for_pytest_asyncio")
        fixture = importlib.import_module("pytest_asyncio").fixture
        setattr(fixtures, BY_PYTEST_ASYNCIO, fixture(name=BY_PYTEST_ASYNCIO)(_open))
        config.pluginmanager.register(fixtures, fixtures.__name__)
