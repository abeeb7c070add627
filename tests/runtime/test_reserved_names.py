"""A class whose methods no stub could call is refused when it is registered."""

from __future__ import annotations

from pathlib import Path

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
