"""Classes that have changed since their instances were stored: what is read of the old ones."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import attrs
import pydantic
import pytest

from durable._engine.codec import MsgpackCodec, codec_of, decode
from durable._model.instances import StoredInstance
from durable._model.storage_errors import UnreadableValue, UnstorableValue

if TYPE_CHECKING:
    from collections.abc import Hashable as OnlyForCheckers


def stored(name: str, content: Any, *unset: str) -> bytes:
    """What is on the disk of an instance."""
    return MsgpackCodec().encode(StoredInstance(name, content, unset))


def read(encoded: bytes, **values: type) -> Any:
    """As an object class reads it that declares *values*."""
    owner = type("Shop", (), {"values": values})
    return codec_of(MsgpackCodec(), owner).decode(encoded)


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1
    notes: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class Tag:
    text: str
    twice: str = attrs.Factory(lambda self: self.text * 2, takes_self=True)
    notes: list[str] = attrs.field(factory=list)


class Point(NamedTuple):
    x: int
    y: int = 5


class Model(pydantic.BaseModel):
    id: int
    notes: list[str] = []


class Status(enum.Enum):
    OPEN = 1
    NEW = OPEN  # as it was called


class Right(enum.Flag):
    READ = 1


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [
        (Line, {"sku": "a"}, Line("a")),
        (Line, {"sku": "a", "gone": 1}, Line("a")),
        (Tag, {"text": "a"}, Tag("a", "aa")),
        (Point, {"x": 1}, Point(1, 5)),
        (Model, {"id": 1, "gone": 2}, Model(id=1)),
        (Status, "NEW", Status.OPEN),
        (Right, [], Right(0)),
        (Right, ["READ"], Right.READ),
    ],
)
def test_old_values_are_read_by_a_class_that_has_changed(cls: type, old: Any, new: Any) -> None:
    """New fields get their defaults, those that are no more are left out, aliases keep names."""
    assert read(stored("Old", old), Old=cls) == new


@pytest.mark.parametrize(
    ("cls", "old", "why"),
    [
        (Line, {"count": 1}, "it has no sku, for which Line has no default"),
        (Tag, {}, "it has no text"),
        (Point, {"y": 1}, "it has no x"),
        (Model, {}, "it has no id"),
        (Status, "CLOSED", "it is the member CLOSED, which is there no more"),
        (Status, {"a": 1}, "it is no enum"),
        (Line, "OPEN", "it is an enum's"),
        (Model, "OPEN", "it is an enum's"),
        (Right, ["WRITE"], "it is the member WRITE"),
    ],
)
def test_what_cannot_be_read_says_what_is_wrong(cls: type, old: Any, why: str) -> None:
    """With the names of what is stored and of the class."""
    with pytest.raises(UnreadableValue, match=why) as caught:
        read(stored("Old", old), Old=cls)

    assert f"a stored Old cannot be made a {cls.__name__}" in str(caught.value)


def test_a_hook_reads_what_was_called_otherwise() -> None:
    """It is given what is stored, and returns what the class has now."""

    @dataclasses.dataclass
    class Item:
        article: str

        @classmethod
        def __durable_read__(cls, fields: dict[str, Any]) -> dict[str, Any]:
            return {"article": fields.pop("sku"), **fields}

    assert read(stored("Line", {"sku": "a"}), Line=Item) == Item("a")


def test_what_a_class_raises_is_told() -> None:
    """By its `__post_init__` or its hook; the cause is kept."""

    @dataclasses.dataclass
    class Positive:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("too small")

    with pytest.raises(UnreadableValue, match="too small") as caught:
        read(stored("Positive", {"x": -1}), Positive=Positive)

    assert isinstance(caught.value.__cause__, ValueError)


def test_a_class_that_is_not_declared_is_not_made() -> None:
    """Whatever class the bytes name; the error says how to say which it is now."""
    with pytest.raises(UnreadableValue, match=r'Shop declares none.*`values = \{"os.system"') as no:
        read(stored("os.system", {"command": "true"}))

    assert not isinstance(no.value.__cause__, AttributeError)


def test_an_unreadable_instance_deep_in_a_value_is_told_as_such() -> None:
    """It is no damage to the store."""
    encoded = MsgpackCodec().encode({"a": [({StoredInstance("Gone", "X")},)]})
    with pytest.raises(UnreadableValue, match="Gone"):
        read(encoded)


def test_without_classes_an_instance_is_kept_as_it_is_stored() -> None:
    """For exports, and for looking at a store: nothing is lost, and it is written the same."""
    owner = type("Shop", (), {"values": [Line, Status, Model, Right]})
    codec = codec_of(MsgpackCodec(), owner)
    value = {Status.OPEN: [Line("a"), Model(id=1), Right.READ, {"x": Line("b", notes=["n"])}]}
    encoded = codec.encode(value)
    found = decode(encoded)

    assert repr(found) == (
        "{Status.OPEN: [Line(sku='a', count=1, notes=[]), Model(id=1, notes=[]), Right(READ), "
        "{'x': Line(sku='b', count=1, notes=['n'])}]}"
    )
    assert MsgpackCodec().encode(found) == encoded
    assert codec.decode(encoded) == value
    with pytest.raises(UnstorableValue):
        codec.encode(found)


def test_annotations_that_only_checkers_can_read_are_passed_over() -> None:
    """The others of the same method count."""

    class Shop:
        values: ClassVar = ()

        def add(self, line: Line, other: OnlyForCheckers) -> dict[str, Tag | None]:
            return {}

    codec = codec_of(MsgpackCodec(), Shop)

    assert codec.decode(codec.encode([Line("a"), Tag("b")])) == [Line("a"), Tag("b")]


def test_two_classes_of_one_name_in_annotations_are_told_at_the_put() -> None:
    """A program that stores neither has no reason to be refused."""
    other = dataclasses.make_dataclass("Line", ["x"])

    def add(self: Any, line: Any, others: Any) -> None: ...

    add.__annotations__ = {"line": Line, "others": list[other]}  # type: ignore[valid-type]
    codec = codec_of(MsgpackCodec(), type("Shop", (), {"add": add}))
    with pytest.raises(UnstorableValue, match="name another class that is called Line"):
        codec.encode(Line("a"))


def test_a_class_that_was_renamed_is_read_by_its_old_name_and_written_by_the_first() -> None:
    """`values` may give one class several names."""
    owner = type("Shop", (), {"values": {"Item": Line, "Line": Line}})
    codec = codec_of(MsgpackCodec(), owner)

    assert codec.decode(stored("Line", {"sku": "a"})) == Line("a")
    assert decode(codec.encode(Line("a"))).name == "Item"


def test_init_vars_that_have_no_default_leave_the_fields_as_stored() -> None:
    """There is nothing to derive anything with."""

    @dataclasses.dataclass
    class Seeded:
        seed: dataclasses.InitVar[int]
        value: int = 0

        def __post_init__(self, seed: int) -> None:
            self.value = seed

    assert read(stored("Seeded", {"value": 4}), Seeded=Seeded).value == 4
