"""What an editor offers behind a stub, seen through pyright's language server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checkers import has_pyright, run
from .language_server import Client, language_server

PROGRAM = '''\
from collections.abc import AsyncIterator

import durable


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        """Count *by* more."""
        return by

    async def ticks(self, count: int) -> AsyncIterator[str]:
        yield "tick"

    def peek(self) -> int:
        return 0
'''
USE = """\
import durable
from counters import Counter


async def use(runtime: durable.Runtime) -> None:
    stub = runtime.namespace(Counter).get_by_name("a")
"""
USE_STUBS = """\
from counters_stubs import CounterStub


async def use(stub: CounterStub) -> None:
"""

OF_EVERY_STUB = {"call", "fetch", "id", "name", "rpc"}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A language server that has a project open, with its stub classes."""
    if not has_pyright():
        pytest.skip("pyright found no node")
    folder = tmp_path_factory.mktemp("project")
    (folder / "counters.py").write_text(PROGRAM, encoding="utf-8")
    done = run("-m", "durable", "types", "counters", "-o", "counters_stubs.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    with language_server(folder) as client:
        yield client


def test_rpc_offers_the_methods_of_the_class_with_their_types(editor: Client) -> None:
    """`stub.rpc.`: names, parameters, results and docstrings."""
    offered = editor.completions(editor.folder / "rpc.py", USE + "    stub.rpc.")

    assert {"increment", "ticks", "peek"} <= offered.keys()
    assert "increment(by: int = 1) -> CoroutineType[Any, Any, int]" in offered["increment"]
    assert "Count *by* more." in offered["increment"].replace("\\", "")
    assert "ticks(count: int) -> AsyncIterator[str]" in offered["ticks"]


def test_a_stub_offers_what_every_stub_has(editor: Client) -> None:
    """`stub.`: no method of the class, since no type says that it has them."""
    offered = editor.completions(editor.folder / "stub.py", USE + "    stub.")

    assert offered.keys() == OF_EVERY_STUB


def test_a_stub_class_offers_the_methods_too(editor: Client) -> None:
    """`stub.`, of a class that `durable types` has written: what is awaited is exact."""
    offered = editor.completions(editor.folder / "stubs.py", USE_STUBS + "    stub.")

    assert offered.keys() >= OF_EVERY_STUB | {"increment", "ticks", "peek"}
    assert "increment(by: int = 1) -> Answer[int]" in offered["increment"]
    assert "peek() -> Answer[int]" in offered["peek"]
    assert "ticks(count: int) -> Stream[str]" in offered["ticks"]


def test_call_is_offered_the_methods_by_their_class(editor: Client) -> None:
    """`stub.call(Counter.`: as of any class."""
    offered = editor.completions(editor.folder / "call.py", USE + "    stub.call(Counter.")

    assert {"increment", "ticks", "peek"} <= offered.keys()
