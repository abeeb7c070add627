"""A class whose methods no stub could call is refused when it is registered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import durable


class Named(durable.DurableObject):
    """Has a method that its stubs hide."""

    async def name(self) -> str:
        return "mine"


class Heir(Named):
    """By inheritance."""


class Fine(durable.DurableObject):
    """What is no method of a stub's may have any name."""

    id = "a number of its own"

    @property
    def name(self) -> str:
        return "mine"

    async def own(self) -> tuple[str, str]:
        return self.id, self.name


@pytest.mark.parametrize("cls", [Named, Heir])
async def test_a_method_that_a_stub_hides_is_refused(
    tmp_path: Path, cls: type[durable.DurableObject]
) -> None:
    """Where the class is bound, and where it is first asked for; the store is left as it was."""
    with pytest.raises(TypeError, match=r"name\(\) could not be called.*get_name"):
        durable.open(tmp_path, bindings={"A": cls})
    async with durable.open(tmp_path) as runtime:
        with pytest.raises(TypeError, match="get_name"):
            runtime.namespace(cls)

        assert await runtime.namespace(Fine).get_by_name("a").own() == (
            "a number of its own",
            "mine",
        )


class Relay(durable.DurableObject):
    """Has methods that were there before a stub had something of the same names."""

    async def call(self, *args: int, times: int = 1) -> int:
        return sum(args) * times

    async def rpc(self, value: int) -> int:
        return -value

    def double(self, value: int) -> int:
        return 2 * value


class Ticker(durable.DurableObject):
    async def call(self, count: int) -> AsyncIterator[int]:
        for n in range(count):
            yield n


async def test_a_class_keeps_its_own_methods_call_and_rpc(tmp_path: Path) -> None:
    """What a stub's `call` gets first says which is meant: a method of the class, or not."""
    async with durable.open(tmp_path) as runtime:
        relay: Any = runtime.namespace(Relay).get_by_name("a")

        assert await relay.call() == 0
        assert await relay.call(1, 2, times=3) == 9
        assert await relay.rpc(1) == -1
        assert await relay.call(Relay.double, 4) == 8
        assert await relay.call(Relay.call, 4, times=2) == 8
        ticker: Any = runtime.namespace(Ticker).get_by_name("a")
        assert [n async for n in ticker.call(3)] == [0, 1, 2]
        assert [n async for n in ticker.call(Ticker.call, 2)] == [0, 1]
        with pytest.raises(TypeError, match=r"call\(\) takes a method of Fine"):
            runtime.namespace(Fine).get_by_name("a").call(len)  # type: ignore[arg-type]


def test_a_class_of_a_file_is_refused_too(tmp_path: Path) -> None:
    """As soon as the file is opened."""
    (tmp_path / "named.py").write_text(
        "import durable\nclass Room(durable.DurableObject):\n    def id(self): ...\n",
        encoding="utf-8",
    )
    (tmp_path / "durable.toml").write_text(
        'name = "x"\nmain = "named.py"\npath = "state"\n'
        'durable_objects.bindings = [{ name = "ROOMS", class_name = "Room" }]\n',
        encoding="utf-8",
    )
    with pytest.raises(TypeError, match=r"Room.id\(\) could not be called"):
        durable.open_config(tmp_path / "durable.toml")


def test_bindings_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    """At the call, and no folder is made."""
    wrong: Any = [durable.DurableObject]
    with pytest.raises(TypeError, match="bindings are a mapping of names to classes"):
        durable.open(tmp_path / "store", bindings=wrong)

    assert list(tmp_path.iterdir()) == []
