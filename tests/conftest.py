"""What every test may count on: the event loops it runs on, and a Hypothesis without chance.

A test that is `async def` runs once on each loop. A module, class or function that is about some of
them only says so: `pytestmark = pytest.mark.backends("asyncio", "trio")`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import settings

from durable._cpython.switch import BORROWS
from durable._engine.engine import Engine
from durable._model.clock import Clock
from durable._runtime import engines, opening
from durable._runtime.open_store import OpenStore
from tests import pooler, postgres, remote

# asyncio's debug mode costs much and changes the order of things; it is off whatever the machine's
# environment says.
BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"debug": False}),
    "uvloop": ("asyncio", {"debug": False, "use_uvloop": True}),
    "trio": ("trio", {}),
}
if sys.platform == "win32":
    del BACKENDS["uvloop"]

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2_000, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The loop under test, as anyio's pytest plugin wants it."""
    return BACKENDS[request.param]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shared", action="store_true", help="open every store with shared=True")
    parser.addoption("--journal", action="store_true", help="open every store with journal=True")
    parser.addoption(
        "--postgres", action="store_true", help="keep every store in a database of PostgreSQL"
    )
    parser.addoption(
        "--pooler",
        action="store_true",
        help="reach each database through a pooler in transaction mode: see tests/pooler.py",
    )
    parser.addoption(
        "--remote",
        action="store_true",
        help="let every call go over a socket to its object: see tests/remote.py",
    )
    parser.addoption("--tcp", action="store_true", help="with --remote, let the socket be TCP")
    parser.addoption(
        "--eager-tasks",
        action="store_true",
        help="run what runs on asyncio with eager tasks, from Python 3.12 on",
    )


def _share_every_store() -> None:
    """Each store that is opened without a word about it is one of shards, open to others."""
    begin = opening.open.__init__

    @functools.wraps(begin)
    def begin_shared(self: Any, *args: Any, **options: Any) -> None:
        if not options.get("scratch") and self._store_class is OpenStore:
            options.setdefault("shared", True)
        begin(self, *args, **options)

    opening.open.__init__ = begin_shared  # type: ignore[method-assign]


def _keep_in_postgres() -> None:
    """Each store that would be a folder is a database, the same for the same folder."""
    urls: dict[str, str] = {}

    def open_engine(path: str, clock: Clock, *, scratch: bool = False, **_: bool) -> Engine:
        url = urls.get(path)
        if url is None:
            url = urls[path] = postgres.server().new_store()
        return engines.open_engine(url, clock, scratch=scratch)

    OpenStore.open_engine = staticmethod(open_engine)


def _give_every_store_a_journal() -> None:
    """Each store that is opened without a word about it, and is not divided, has a journal."""
    begin = opening.open.__init__

    @functools.wraps(begin)
    def begin_with_journal(self: Any, path: Any, *args: Any, **options: Any) -> None:
        is_one = not options.get("shared") and not opening.is_of_shards(os.fspath(path))
        is_one = is_one and not opening.is_url(os.fspath(path))
        if is_one and not options.get("scratch") and self._store_class is OpenStore:
            options.setdefault("journal", True)
        begin(self, path, *args, **options)

    opening.open.__init__ = begin_with_journal  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    # A run in the background of a shell inherits that Ctrl-C is ignored, and would hand it on.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--shared"):
        _share_every_store()
    if config.getoption("--postgres"):
        _keep_in_postgres()
    if config.getoption("--journal"):
        _give_every_store_a_journal()
    if config.getoption("--pooler"):
        pooler.install()
    if config.getoption("--remote"):
        remote.install(over_tcp=config.getoption("--tcp"))
    if config.getoption("--eager-tasks"):
        BACKENDS["asyncio"] = ("asyncio", {"debug": False, "loop_factory": _eager_loop})


def pytest_report_header(config: pytest.Config) -> list[str]:
    if config.getoption("--pooler") and pooler.program() is None:
        return [f"LEFT OUT: {pooler.MISSING}"]
    return []


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def pytest_runtest_setup(item: pytest.Item) -> None:
    of_files = item.get_closest_marker("one_folder") is not None
    if of_files and item.config.getoption("--shared"):
        pytest.skip("a store of shards has other files")
    if of_files and item.config.getoption("--postgres"):
        pytest.skip("a database has no files")
    if item.get_closest_marker("cold") is not None and item.config.getoption("--postgres"):
        pytest.skip("what a database has stored of an object comes with it")
    if item.get_closest_marker("sessions") is not None and item.config.getoption("--pooler"):
        pytest.skip("a pooler has other sessions with the database than its clients with it")
    local = item.get_closest_marker("local")
    if local is not None and item.config.getoption("--remote"):
        pytest.skip(*local.args)
    if item.get_closest_marker("borrows") is not None and not BORROWS:
        pytest.skip("what is borrowed from CPython is switched off")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "anyio_backend" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("backends")
    names = tuple(BACKENDS) if mark is None else mark.args
    unknown = set(names) - {"asyncio", "uvloop", "trio"}
    assert not unknown, f"{metafunc.definition.nodeid}: no such backend: {sorted(unknown)}"
    known = [name for name in names if name in BACKENDS]
    metafunc.parametrize("anyio_backend", known, indirect=True, scope="module")
