"""P10, by value: instances of authors' classes, in storage, calls, streams and attachments."""

from __future__ import annotations

import dataclasses
import enum
import pickle
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NewType, TypeVar

import anyio
import attrs
import pydantic
import pytest

import durable
import durable.testing


class Status(enum.Enum):
    OPEN = "open"
    PAID = ("paid", 2)


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Line:
    sku: str
    at: Point
    sizes: list[int] = dataclasses.field(default_factory=list)
    doubled: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.doubled = self.sku * 2
        self.derived = self.sku.upper()  # no field


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    name: str


@attrs.frozen(cache_hash=True)
class Tag:
    _text: str
    level: Level = attrs.field(converter=Level)


class Model(pydantic.BaseModel):
    id: int
    lines: list[Line] = []
    title: str | None = pydantic.Field(default=None, alias="heading")


class Order(pydantic.BaseModel):
    model: Model


Reference = NewType("Reference", Key)
Limited = TypeVar("Limited", bound=Tag)

VALUES: list[Any] = [
    Status.OPEN,
    Status.PAID,
    Level.LOW,
    Right.READ,
    Right.READ | Right.WRITE,
    Right(0),
    Point(1),
    Line("pear", Point(1, 2), [3]),
    Key("a"),
    Tag("t", Level.LOW),
    Model(id=1, lines=[Line("pear", Point(1, 2))], heading="h"),
    Order(model=Model(id=1)),
    {Status.OPEN: {Key("a"): [Point(1)]}, "x": {Key("a")}},
    [{1: (Point(1), {Level.LOW})}],
]


class Shop(durable.DurableObject):
    values: ClassVar = [Status, Right]

    def put(self, value: Any) -> None:
        self.ctx.storage.put("value", value)

    async def get(self) -> dict[str, Order | None]:
        return await self.ctx.storage.get("value")  # type: ignore[no-any-return]

    def echo(self, value: Any) -> Any:
        return value

    async def items(self, values: list[Any]) -> AsyncIterator[Reference]:
        for value in values:
            yield value

    def _inner(self, tag: Callable[[Mapping[str, Limited]], None]) -> None: ...


@pytest.fixture
async def shop(runtime: durable.Runtime) -> durable.Stub[Shop]:
    return runtime.namespace(Shop).get_by_name("a")


def same(found: Any, value: Any) -> bool:
    return type(found) is type(value) and bool(found == value) and repr(found) == repr(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
async def test_an_instance_of_a_declared_class_comes_back_as_itself(
    shop: durable.Stub[Shop], value: Any
) -> None:
    """From storage, and from the disk; classes are found in `values`, in the annotations of
    methods, and in the fields of these classes."""
    if isinstance(value, dict):
        value.pop("x", None)  # the repr of a set is not the same twice
    await shop.put(value)
    assert same(await shop.get(), value)
    await durable.testing.evict(shop)
    assert same(await shop.get(), value)
    assert same(await shop.echo(value), value)


async def test_what_a_class_derives_is_there_again(shop: durable.Stub[Shop]) -> None:
    """`__post_init__` has run; which fields of a model were set is known."""
    await shop.put([VALUES[7], VALUES[10]])
    line, model = await shop.get()

    assert (line.doubled, line.derived) == ("pearpear", "PEAR")
    assert model.model_fields_set == {"id", "lines", "title"}
    assert {Tag("t", Level.LOW)} == {await shop.echo(Tag("t", Level.LOW))}


async def test_an_instance_is_copied(shop: durable.Stub[Shop]) -> None:
    """Later changes to it, or to what was read, change nothing elsewhere."""
    line = Line("pear", Point(1))
    sent = shop.echo(line)
    await shop.put(line)
    line.sizes.append(1)
    (await shop.get()).sizes.append(2)

    assert (await sent).sizes == (await shop.get()).sizes == []


async def test_items_of_streams_are_instances(shop: durable.Stub[Shop]) -> None:
    """As arguments and results are."""
    values = [VALUES[5], VALUES[8], VALUES[10]]

    assert [item async for item in shop.items(values)] == values


async def test_all_calls_of_the_storage_take_instances(shop: durable.Stub[Shop]) -> None:
    """`kv`, lists, many keys, and transactions, which may be rolled back."""
    a, b = Key("a"), Point(2)

    async def use(_: Shop, ctx: durable.State) -> None:
        ctx.storage.kv.put({"a": a, "b": b})

        async def fail(txn: durable.Transaction) -> None:
            txn.put("a", Status.OPEN)
            assert await txn.get("a") is Status.OPEN
            txn.rollback()

        await ctx.storage.transaction(fail)
        assert ctx.storage.kv.get("a") == a
        assert await ctx.storage.get(["a", "b"]) == await ctx.storage.list() == {"a": a, "b": b}

    await durable.testing.run_in_object(shop, use)


async def test_attachments_are_instances(shop: durable.Stub[Shop]) -> None:
    """Of the classes that the object declares."""

    async def attach(_: Shop, ctx: durable.State) -> None:
        _, server = durable.WebSocketPair()
        ctx.accept_websocket(server)
        server.serialize_attachment({"key": Key("a"), "status": Status.OPEN})
        assert server.deserialize_attachment() == {"key": Key("a"), "status": Status.OPEN}
        with pytest.raises(durable.UnstorableValue):
            server.serialize_attachment(Undeclared(1))

    await durable.testing.run_in_object(shop, attach)


@dataclasses.dataclass
class Undeclared:
    x: Any


class Bare(durable.DurableObject):
    def put(self, value):  # type: ignore[no-untyped-def]
        self.ctx.storage.put("value", value)

    def echo(self, value):  # type: ignore[no-untyped-def]
        return value


@pytest.mark.local("only instances of declared classes are sent to another process")
@pytest.mark.parametrize("value", [Undeclared(1), Status.OPEN, Level.LOW, Point(1), Model(id=1)])
async def test_an_instance_of_a_class_that_is_not_declared_is_not_stored(
    runtime: durable.Runtime, value: Any
) -> None:
    """The error says where it is, and what to write. It may be sent, which takes no stored byte."""
    bare = runtime.namespace(Bare).get_by_name("a")
    name = type(value).__name__
    with pytest.raises(durable.UnstorableValue, match=rf"`values = \[{name}\]` in Bare") as caught:
        await bare.put({"a": [value]})

    assert caught.value.where == "value['a'][0]"
    assert same(await bare.echo([value]), [value])


async def test_the_place_of_a_culprit_leads_through_fields(shop: durable.Stub[Shop]) -> None:
    """As it does through containers."""
    with pytest.raises(durable.UnstorableValue) as caught:
        await shop.put([Line("pear", Point(1), [1j])])  # type: ignore[list-item]

    assert caught.value.where == "value[0][0].sizes[0]"


@pytest.mark.local("only instances of declared classes are sent to another process")
async def test_an_instance_that_contains_itself_is_refused(shop: durable.Stub[Shop]) -> None:
    """As a list is."""
    line = Undeclared([])
    line.x.append(line)
    with pytest.raises(durable.UnstorableValue, match="contains itself"):
        shop.echo(line)


async def test_a_subclass_of_a_declared_class_is_not_declared(shop: durable.Stub[Shop]) -> None:
    """It would be another one that comes back."""

    class Wide(Line):
        pass

    with pytest.raises(durable.UnstorableValue, match="Wide"):
        await shop.put(Wide("a", Point(1)))


async def test_subclasses_of_plain_types_are_stored_as_what_they_are(
    shop: durable.Stub[Shop],
) -> None:
    """And sent as that."""
    value = {"a": defaultdict(list, b=[bytearray(b"x")])}
    await shop.put(value)

    for found in (await shop.get(), await shop.echo(value)):
        assert found == {"a": {"b": [bytearray(b"x")]}}  # type: ignore[comparison-overlap]
        assert type(found["a"]) is dict


def test_values_that_are_no_classes_of_values_are_refused_at_the_declaration(
    tmp_path: Path,
) -> None:
    """When the class is bound, saying which."""

    class Wrong(durable.DurableObject):
        values: ClassVar = [Line, dict]

    with pytest.raises(TypeError, match=r"values of .*Wrong are classes.*<class 'dict'>"):
        durable.open(tmp_path, bindings={"WRONG": Wrong})


def test_two_declared_classes_of_one_name_need_names(tmp_path: Path) -> None:
    """What is stored is the name, so that it must say which."""
    other = dataclasses.make_dataclass("Line", ["x"])

    class Twice(durable.DurableObject):
        values: ClassVar = [Line, other]

    class Named(durable.DurableObject):
        values: ClassVar = {"Line": Line, "OtherLine": other}

    with pytest.raises(TypeError, match="two classes are called Line"):
        durable.open(tmp_path, bindings={"TWICE": Twice})
    durable.open(tmp_path, bindings={"NAMED": Named})


async def test_a_method_called_values_is_a_method(runtime: durable.Runtime) -> None:
    """The name is not taken from authors."""

    class Table(durable.DurableObject):
        def values(self) -> list[int]:
            return [1]

    assert await runtime.namespace(Table).get_by_name("a").values() == [1]


class Pickling:
    """A codec of a program's own."""

    def encode(self, value: Any, /) -> bytes:
        return pickle.dumps(value)

    def decode(self, encoded: bytes, /) -> Any:
        return pickle.loads(encoded)


async def test_a_codec_is_for_storage_arguments_results_and_attachments(tmp_path: Path) -> None:
    """What is plain, or passes by reference, does not need it."""
    async with durable.open(tmp_path, codec=Pickling()) as runtime:
        bare = runtime.namespace(Bare).get_by_name("a")
        path = Path("x")
        assert await bare.echo({"at": [path]}) == {"at": [path]}
        await bare.put(path)

        async def read(_: Bare, ctx: durable.State) -> Any:
            _, server = durable.WebSocketPair()
            server.serialize_attachment(path)
            assert server.deserialize_attachment() == path
            return await ctx.storage.get("value")

        assert await durable.testing.run_in_object(bare, read) == path
        assert (await bare.echo(bare)) == bare


async def test_a_function_that_was_sent_takes_instances(runtime: durable.Runtime) -> None:
    """Its arguments and its result are those of any call."""
    bare = runtime.namespace(Bare).get_by_name("a")
    function = await bare.echo(lambda value: [value, Key("b")])

    assert await function(Status.OPEN) == [Status.OPEN, Key("b")]
    await anyio.lowlevel.checkpoint()
