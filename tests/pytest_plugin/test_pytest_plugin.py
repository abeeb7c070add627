"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "durable" / "testing" / "pytest_plugin.py"
ROOT = PLUGIN.parents[2]

pytest_plugins = ["pytester"]

OBJECTS = """
    import sys
    from datetime import timedelta

    import pytest

    import durable

    class Counter(durable.DurableObject):
        async def increment(self) -> int:
            value = await self.ctx.storage.get("value", 0) + 1
            self.ctx.storage.put("value", value)
            return value

        async def remind(self) -> None:
            self.ctx.storage.set_alarm(timedelta(hours=1))

        async def alarm(self) -> None:
            self.ctx.storage.put("rang", True)

        def rang(self) -> bool:
            return self.ctx.storage.kv.get("rang", False)
"""

TESTS = """
    async def test_a_store_counts(durable_runtime):
        assert await durable_runtime.namespace(Counter).get_by_name("a").increment() == 1

    async def test_another_test_has_another_store(durable_runtime):
        assert await durable_runtime.namespace(Counter).get_by_name("a").increment() == 1

    async def test_the_clock_moves_it(durable_runtime, durable_clock):
        stub = durable_runtime.namespace(Counter).get_by_name("a")
        await stub.remind()
        assert not await stub.rang()
        await durable_clock.advance(3_600)
        assert await stub.rang()

    async def test_its_disk_can_fail(durable_runtime, durable_faults):
        durable_faults.fail_commits()
        with pytest.raises(durable.CommitFailed):
            await durable_runtime.namespace(Counter).get_by_name("a").increment()
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """Run *tests* in a pytest of their own, which has the plugin as it is installed."""
    shutil.copy(PLUGIN, pytester.path / "durable_pytest_plugin.py")
    pytester.syspathinsert(ROOT)
    pytester.syspathinsert(pytester.path)
    pytester.makepyfile(tests)
    plugin = () if _is_installed() else ("-p", "durable_pytest_plugin")
    return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", *options)


def _is_installed() -> bool:
    found = importlib.metadata.entry_points(group="pytest11")
    return any(point.value == "durable_pytest_plugin" for point in found)


def test_with_anyio_a_test_gets_a_store_of_its_own(pytester: pytest.Pytester) -> None:
    """On every loop that the test runs on."""
    mark = "pytestmark = pytest.mark.anyio\n"
    result = run(pytester, _join(OBJECTS, f"    {mark}", TESTS), "-p", "no:asyncio")

    result.assert_outcomes(passed=8 if importlib.util.find_spec("trio") else 4)


def test_with_pytest_asyncio_a_test_gets_a_store_of_its_own(pytester: pytest.Pytester) -> None:
    """On the loop that pytest-asyncio runs the test on."""
    pytest.importorskip("pytest_asyncio")
    mark = "pytestmark = pytest.mark.asyncio\n"
    result = run(pytester, _join(OBJECTS, f"    {mark}", TESTS), "-p", "no:anyio")

    result.assert_outcomes(passed=4)


def test_with_both_plugins_each_runs_its_own_tests(pytester: pytest.Pytester) -> None:
    """The mark of the test decides."""
    pytest.importorskip("pytest_asyncio")
    one = TESTS.split("    async def")[1]
    tests = _join(
        OBJECTS,
        f"    @pytest.mark.asyncio\n    async def{one}",
        f"    @pytest.mark.anyio\n    async def{one.replace('store_counts', 'store_too')}",
    )
    result = run(pytester, tests)

    result.assert_outcomes(passed=3 if importlib.util.find_spec("trio") else 2)


def test_options_of_the_store_are_overridden_by_a_fixture(pytester: pytest.Pytester) -> None:
    """Bindings, for instance."""
    tests = """
    @pytest.fixture
    def durable_options():
        return {"bindings": {"COUNTERS": Counter}, "vars": {"answer": 42}}

    @pytest.mark.anyio
    async def test_env(durable_runtime):
        assert await durable_runtime.env.COUNTERS.get_by_name("a").increment() == 1
        assert durable_runtime.env.answer == 42
    """
    result = run(pytester, _join(OBJECTS, tests), "-k", "asyncio", "-p", "no:asyncio")

    result.assert_outcomes(passed=1, deselected=1 if importlib.util.find_spec("trio") else 0)


def test_a_test_that_is_not_async_is_told_what_to_do(pytester: pytest.Pytester) -> None:
    """There is no loop to open the store on."""
    tests = """
    def test_plain(durable_runtime):
        pass
    """
    result = run(pytester, tests, "-p", "no:asyncio")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*durable_runtime is for async tests*"])


def test_the_library_is_not_imported_before_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    """Whoever has it installed does not pay for it in tests of other things."""
    tests = """
    import sys

    def test_nothing_of_it():
        assert not [name for name in sys.modules if name.partition(".")[0] == "durable"]
    """
    result = run(pytester, tests, "-p", "no:asyncio")

    result.assert_outcomes(passed=1)


def test_the_plugin_is_declared() -> None:
    """The entry point and the file that it names go together."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")

    assert '[project.entry-points.pytest11]\ndurable = "durable_pytest_plugin"' in text
    assert '"durable/testing/pytest_plugin.py" = "durable_pytest_plugin.py"' in text
    done = subprocess.run([sys.executable, str(PLUGIN)], check=False, capture_output=True)
    assert done.returncode == 0


def _join(*parts: str) -> str:
    return "".join(parts)
