"""What is exported can be imported: the same values, names and alarms, there or elsewhere."""

from __future__ import annotations

import enum
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable
from durable import operate
from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from durable._engine.codec import decode, encode
from durable._engine.side_records import OWN
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable._model.errors import StoreFull
from durable._model.ids import BASE_SIZE
from durable.operate import StoredInstance, importing

pytestmark = pytest.mark.backends("asyncio")


class Box(durable.DurableObject):
    """Keeps what it is given."""

    async def put(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def set_alarm(self, posix_s: float) -> None:
        self.ctx.storage.set_alarm(posix_s)

    async def alarm(self) -> None:
        """Rings in the far future only."""


FAR_S = 4_000_000_000.0


def fill(folder: Path, *names: str) -> None:
    """A store with a Box of each name, and one without a name."""

    async def main() -> None:
        async with durable.open(folder, bindings={"BOXES": Box}) as runtime:
            boxes = runtime.namespace(Box)
            for name in names:
                await boxes.get_by_name(name).put("name", name)
                await boxes.get_by_name(name).set_alarm(FAR_S)
            await boxes.get(boxes.new_unique_id()).put("k" * 2_000, ("long", "key"))

    anyio.run(main)


def exported(folder: Path, **options: Any) -> str:
    text = io.StringIO()
    with operate.look(folder) as store:
        operate.export(store, text, **options)
    return text.getvalue()


def contents(folder: Path) -> list[Any]:
    """All that is in a store, but for where it lies in the file."""
    with operate.look(folder) as store:
        return [
            (found.cls.label, found.id, found.name, found.created, found.alarm,
             dict(store.items(found)))
            for found in store.objects()
        ]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    fill(tmp_path / "source", "a", "b")
    return tmp_path / "source"


@pytest.fixture
def file(source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "objects.jsonl"
    path.write_text(exported(source), encoding="utf-8")
    return path


def test_a_store_goes_into_another_whole(source: Path, file: Path, tmp_path: Path) -> None:
    """Ids, names, creation times, alarms and values are what they were."""
    carried = operate.import_file(tmp_path / "other", file)

    assert (carried.objects, carried.values) == (3, 3)
    assert contents(tmp_path / "other") == contents(source)
    assert operate.check(tmp_path / "other") == []


async def test_what_was_imported_is_there_for_the_program(file: Path, tmp_path: Path) -> None:
    """An imported object is reached by its name, and has its alarm."""
    await anyio.to_thread.run_sync(operate.import_file, tmp_path / "other", file)
    async with durable.open(tmp_path / "other", bindings={"BOXES": Box}) as runtime:
        names = [found.name async for found in runtime.namespace(Box).objects("a")]

    assert names == ["a"]


def test_one_object_is_forked_under_another_name(source: Path, tmp_path: Path) -> None:
    """An object goes into the same store under a new name; the old one stays as it is."""
    file = tmp_path / "one.jsonl"
    file.write_text(exported(source, cls="Box", name_or_id="a"), encoding="utf-8")
    before = contents(source)
    operate.import_file(source, file, name="fork of a")

    after = contents(source)
    assert [each for each in after if each[2] != "fork of a"] == before
    (fork,) = [each for each in after if each[2] == "fork of a"]
    assert fork[5] == {"name": "a"}


def test_side_records_go_along(source: Path, tmp_path: Path) -> None:
    """What the library keeps for an object beside its keys, more than one step of it."""
    sides: dict[bytes, bytes] = {OWN + n.to_bytes(4, "big"): b"%d" % n for n in range(1, 1_200)}
    sides[OWN + "tïmers".encode()] = b""
    add_sides(source, "a", dict(sides))
    file = tmp_path / "all.jsonl"
    file.write_text(exported(source), encoding="utf-8")
    operate.import_file(tmp_path / "other", file)

    with operate.look(tmp_path / "other") as store:
        assert dict(store.sides(store.find("Box", "a"))) == sides
        assert list(store.sides(store.find("Box", "b"))) == []
    assert contents(tmp_path / "other") == contents(source)
    assert operate.check(tmp_path / "other") == []


@pytest.mark.parametrize(
    "line",
    [
        {"side": "00", "encoded": ""},
        {"side": "04", "encoded": "?"},
        {"side": "4"},
        {"side": "04" * 481, "encoded": ""},
        {"side": 4, "encoded": ""},
    ],
)
def test_a_side_record_that_cannot_be_is_refused(
    file: Path, tmp_path: Path, line: dict[str, Any]
) -> None:
    """With its line, before anything is written."""
    lines = file.read_text(encoding="utf-8").splitlines()
    lines.insert(4, json.dumps(line))
    file.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    with pytest.raises(operate.NotAnExport, match=r"line 5 of the file: .*side record"):
        operate.import_file(tmp_path / "other", file)

    assert not (tmp_path / "other").exists()


def add_sides(folder: Path, name: str, sides: dict[bytes, bytes | None]) -> None:
    with operate.look(folder) as store:
        found = store.find("Box", name)
    base = found.id.raw[:BASE_SIZE]
    environment = Environment.open(folder, clock=SystemClock())
    try:
        handle = ObjectHandle(found.cls.number, base, found.number, name, None, None)
        callbacks = Callbacks(lambda: None, lambda error: None)
        environment.commit([Batch(handle, False, {}, UNCHANGED, callbacks, 0, sides=sides)])
    finally:
        environment.close()


def test_objects_go_into_another_class(source: Path, file: Path) -> None:
    """Named objects have the id there that their name has in that class."""
    operate.import_file(source, file, cls="Crate")

    with operate.look(source) as store:
        assert store.cls("Crate").unique_key == "Crate"
        assert dict(store.items(store.find("Crate", "b"))) == {"name": "b"}
        assert store.count(store.cls("Crate")) == 3


async def test_a_class_is_named_without_its_script_where_only_one_has_the_name(
    file: Path, tmp_path: Path
) -> None:
    """As everywhere on the command line; of two that have it, one must be named in full."""
    async with durable.open(tmp_path / "other", script="shop") as runtime:
        runtime.namespace(Box)
    run = partial(operate.import_file, tmp_path / "other", file, cls="Box")
    await anyio.to_thread.run_sync(run)
    with operate.look(tmp_path / "other") as store:
        assert [(each.label, store.count(each)) for each in store.classes()] == [("shop:Box", 3)]

    async with durable.open(tmp_path / "other", script="desk") as runtime:
        runtime.namespace(Box)
    with pytest.raises(durable.UnknownClass, match="shop:Box, desk:Box"):
        await anyio.to_thread.run_sync(run)


def test_what_is_there_is_refused_skipped_or_replaced(source: Path, file: Path) -> None:
    """An import never overwrites unless it is told to."""
    before = contents(source)
    with pytest.raises(operate.ObjectExists, match="in the store already"):
        operate.import_file(source, file)
    assert operate.import_file(source, file, existing="skip").skipped == 3
    assert contents(source) == before

    fill(source, "a", "c")  # further keys, and a further object
    assert operate.import_file(source, file, existing="replace").objects == 3
    assert [each for each in contents(source) if each in before] == before
    assert operate.check(source) == []


def test_only_a_single_object_can_be_renamed(file: Path, tmp_path: Path) -> None:
    """A name for many is an error, and makes no store."""
    with pytest.raises(operate.NotAnExport, match="one object"):
        operate.import_file(tmp_path / "other", file, name="x")

    assert not (tmp_path / "other").exists()


def test_unknown_classes_and_objects_are_said(source: Path) -> None:
    """With what there is."""
    with operate.look(source) as store:
        with pytest.raises(durable.UnknownClass, match="known are: Box"):
            operate.export(store, io.StringIO(), cls="Nope")
        with pytest.raises(operate.UnknownObject, match="'nobody'"):
            store.find("Box", "nobody")
        with pytest.raises(durable.InvalidId):
            store.find("Box", "0" * 64)


def drop_last(lines: list[str]) -> list[str]:
    return lines[:-1]


def cut(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1][:5]]


def with_line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:number], text, *lines[number + 1 :]]


OBJECT = '{"object":{"id":"%s","name":null,"created":"2026-01-01T00:00:00+00:00","alarm":null}}'


def end(objects: int, values: int) -> str:
    return json.dumps({"end": {"objects": objects, "values": values}})


BROKEN = {
    "cut off at a line": drop_last,
    "cut off inside a line": cut,
    "empty": lambda lines: [],
    "no export": lambda lines: ['{"some": "thing"}'],
    "a later version": with_line(0, '{"format":"durable export","version":99}'),
    "no JSON": with_line(3, "what?"),
    "no object": with_line(3, "[]"),
    "NaN": with_line(3, '{"key":"name","value":NaN}'),
    "an unknown type": with_line(3, '{"key":"name","value":{"$complex":[1,2]}}'),
    "a wrong value": with_line(3, '{"key":"name","value":{"$bytes":"?"}}'),
    "a key that is no text": with_line(3, '{"key":7,"value":1}'),
    "a key that is too long": with_line(3, json.dumps({"key": "k" * 2_049, "value": 1})),
    "an id of nobody": with_line(2, OBJECT % ("0" * 64)),
    "an id that is none": with_line(2, OBJECT % "xyz"),
    "an object before any class": lambda lines: [lines[0], *lines[2:]],
    "a key before any object": lambda lines: [*lines[:2], '{"key":"a","value":1}', *lines[2:]],
    "an object twice": lambda lines: [*lines[:-1], *lines[2:]],
    "too few objects": lambda lines: [*lines[:2], *lines[4:]],
    "something behind the end": lambda lines: [*lines, lines[1]],
    "a script that is no text": with_line(
        1, '{"class":{"name":"Box","script":"\\ud800","unique_key":"Box"}}'
    ),
    "objects in no order, one twice": lambda lines: [
        *lines[:2],
        *lines[4:6],
        *lines[2:4],
        *lines[6:-1],
        *lines[4:6],
        end(4, 4),
    ],
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_not_right_changes_nothing(
    file: Path, tmp_path: Path, damage: Callable[[list[str]], list[str]]
) -> None:
    """The whole file is read first; what is wrong is said with its line."""
    lines = damage(file.read_text(encoding="utf-8").splitlines())
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with pytest.raises(operate.NotAnExport):
        operate.import_file(tmp_path / "other", file)

    assert not (tmp_path / "other").exists()


def test_a_line_that_is_no_text_is_said_with_its_number(file: Path, tmp_path: Path) -> None:
    """However long the file is."""
    raw = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*raw[:4], b"\xff\n", *raw[4:]]))
    with pytest.raises(operate.NotAnExport, match=r"line 5 of the file: it is not valid UTF-8"):
        operate.import_file(tmp_path / "other", file)

    assert not (tmp_path / "other").exists()


def test_objects_may_come_in_any_order(source: Path, file: Path, tmp_path: Path) -> None:
    """Other programs write files too; only those of ours promise that ids ascend."""
    first, cls, *rest, last = file.read_text(encoding="utf-8").splitlines(keepends=True)
    objects = ["".join(rest[at : at + 2]) for at in range(0, len(rest), 2)]
    file.write_text("".join([first, cls, *reversed(objects), last]), encoding="utf-8")
    operate.import_file(tmp_path / "other", file)

    assert contents(tmp_path / "other") == contents(source)


def test_two_objects_that_would_become_one_are_refused(tmp_path: Path) -> None:
    """Two classes go into one, and both have an object of that name."""

    class Crate(Box):
        """Another class."""

    async def main() -> None:
        async with durable.open(tmp_path / "source", bindings={"B": Box, "C": Crate}) as runtime:
            for boxes in (runtime.env.B, runtime.env.C):
                await boxes.get_by_name("same").put("k", str(boxes))

    anyio.run(main)
    file = tmp_path / "objects.jsonl"
    file.write_text(exported(tmp_path / "source"), encoding="utf-8")
    with pytest.raises(operate.NotAnExport, match="'same' comes twice"):
        operate.import_file(tmp_path / "other", file, cls="Shelf")
    assert not (tmp_path / "other").exists()

    operate.import_file(tmp_path / "other", file)
    assert contents(tmp_path / "other") == contents(tmp_path / "source")


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt, StoreFull("the disk is full"), OSError(5, "x")]
)
def test_an_import_that_is_interrupted_can_be_done_again(
    source: Path,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException] | BaseException,
) -> None:
    """What was stored is whole, the error says how much it is, and skipping it does the rest."""
    monkeypatch.setattr(importing, "GROUP_COUNT_MAX", 1)

    def on_object(count: int) -> None:
        if count == 2:
            raise stop

    with pytest.raises(BaseException) as raised:
        operate.import_file(tmp_path / "other", file, on_object=on_object)
    assert "2 objects of the file were stored" in raised.value.__notes__[0]
    raised.value.__notes__.clear()
    there = contents(tmp_path / "other")
    assert len(there) == 2
    assert all(each in contents(source) for each in there)
    assert operate.check(tmp_path / "other") == []

    carried = operate.import_file(tmp_path / "other", file, existing="skip")
    assert (carried.objects, carried.skipped) == (1, 2)
    assert contents(tmp_path / "other") == contents(source)


def test_an_import_reads_no_pipe(file: Path, tmp_path: Path) -> None:
    """It reads the file more than once, and says so before it makes anything."""
    os.mkfifo(tmp_path / "pipe")
    # Both ends, so that nobody waits for the other.
    end = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="cannot be a pipe"):
            operate.import_file(tmp_path / "other", tmp_path / "pipe")
    finally:
        os.close(end)

    assert not (tmp_path / "other").exists()


def test_a_value_that_cannot_be_decoded_is_carried_as_it_is(tmp_path: Path) -> None:
    """A store of another codec is carried byte for byte."""

    class Reversed:
        def encode(self, value: Any, /) -> bytes:
            return b"!" + repr(value).encode()

        def decode(self, encoded: bytes, /) -> Any:
            raise AssertionError

    async def main() -> None:
        async with durable.open(
            tmp_path / "source", bindings={"BOXES": Box}, codec=Reversed()
        ) as runtime:
            await runtime.env.BOXES.get_by_name("a").put("k", 1)

    anyio.run(main)
    file = tmp_path / "objects.jsonl"
    file.write_text(exported(tmp_path / "source"), encoding="utf-8")
    operate.import_file(tmp_path / "other", file)

    for folder in (tmp_path / "source", tmp_path / "other"):
        with operate.look(folder) as store:
            (found,) = store.objects()
            assert dict(store.encoded(found)) == {"k": b"!1"}


class Status(enum.Enum):
    OPEN = 1


@dataclass
class Order:
    item: str
    status: Status


class Orders(durable.DurableObject):
    values: ClassVar = [Order]

    async def put(self, order: Order) -> None:
        self.ctx.storage.put("order", order)

    async def get(self) -> Any:
        return await self.ctx.storage.get("order")


def test_calls_that_are_remembered_are_carried_along(tmp_path: Path) -> None:
    """By export and import, and by a copy; no listing shows them."""

    async def put_once(folder: Path, value: int) -> None:
        async with durable.open(folder, bindings={"BOXES": Box}) as runtime:
            box = runtime.namespace(Box).get_by_name("a")
            await box.call(Box.put, "n", 1, once="k")
            if value == 1:
                return
            await box.put("n", value)
            await box.call(Box.put, "n", 1, once="k")
            with pytest.raises(durable.OnceConflict):
                await box.call(Box.put, "n", 2, once="k")

    source = tmp_path / "source"
    anyio.run(put_once, source, 1)
    exported = io.StringIO()
    with operate.look(source) as store:
        [found] = store.objects()
        assert list(store.items(found)) == [("n", 1)]
        operate.export(store, exported)
    (tmp_path / "file").write_text(exported.getvalue(), encoding="utf-8")
    operate.import_file(tmp_path / "imported", tmp_path / "file")
    operate.copy(source, tmp_path / "copied")
    for folder in ("imported", "copied"):
        anyio.run(put_once, tmp_path / folder, 7)
        with operate.look(tmp_path / folder) as store:
            [found] = store.objects()
            assert list(store.items(found)) == [("n", 7)]
        assert operate.check(tmp_path / folder) == []


def test_instances_are_carried_without_their_classes(tmp_path: Path) -> None:
    """They are shown by the names of their classes and fields, and are themselves in the end."""

    async def main(folder: Path, put: bool) -> Any:
        async with durable.open(folder, bindings={"ORDERS": Orders}) as runtime:
            stub = runtime.namespace(Orders).get_by_name("a")
            if put:
                await stub.put(Order("pear", Status.OPEN))
            return await stub.get()

    anyio.run(main, tmp_path / "source", True)
    with operate.look(tmp_path / "source") as store:
        (found,) = store.objects()
        (order,) = dict(store.items(found)).values()
    file = tmp_path / "objects.jsonl"
    file.write_text(exported(tmp_path / "source"), encoding="utf-8")
    operate.import_file(tmp_path / "other", file)

    assert repr(order) == "Order(item='pear', status=Status.OPEN)"
    assert anyio.run(main, tmp_path / "other", False) == Order("pear", Status.OPEN)
    assert operate.check(tmp_path / "other") == []


@pytest.mark.parametrize(
    "written",
    [
        '{"$instance": [["a", 1]]}',
        '{"$instance": [[1, 1]], "class": "A"}',
        '{"$instance": 1, "class": "A"}',
        '{"$enum": 1, "class": "A"}',
        '{"$enum": "A"}',
        '{"$flags": [null], "class": "A"}',
    ],
)
def test_an_instance_that_is_not_right_is_refused(written: str) -> None:
    """It could not be what was stored."""
    with pytest.raises(operate.NotInFormat):
        operate.from_json(json.loads(written))


# Values

ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=1), "mine"),
     ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")]
)  # fmt: skip
KEYS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.dates() | st.uuids() | st.decimals(allow_nan=False)
    | st.timedeltas()
)  # fmt: skip
LEAVES = (
    KEYS | st.datetimes(timezones=st.none()) | st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(), ZONES, st.sampled_from([0, 1]),
    ) | st.times()
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$int", "$", "a", ""]), inner, max_size=3)
        | st.builds(StoredInstance, st.text(), st.dictionaries(st.text(), inner, max_size=3))
    ),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """*value* with the types of all that is in it; sets have no order."""
    if isinstance(value, list | tuple):
        return type(value), tuple(shape(item) for item in value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset(shape(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((shape(key), shape(item)) for key, item in value.items())
    if isinstance(value, StoredInstance):
        return StoredInstance, value.name, shape(value.content)
    return type(value), repr(value)


@given(VALUES)
def test_every_value_survives_json(value: Any) -> None:
    """A value comes back from JSON such that it would be stored as the same bytes."""
    back = operate.from_json(json.loads(json.dumps(operate.to_json(value))))

    assert back == value
    assert shape(back) == shape(decode(encode(value)))


KNOWN: list[tuple[Any, str]] = [
    ([None, True, 1, 1.5, "x"], '[null, true, 1, 1.5, "x"]'),
    (2**60, '{"$int": "1152921504606846976"}'),
    (float("inf"), '{"$float": "inf"}'),
    (b"\x00\xff", '{"$bytes": "AP8="}'),
    ((1, 2), '{"$tuple": [1, 2]}'),
    ({1: 2}, '{"$dict": [[1, 2]]}'),
    ({"$a": 2}, '{"$dict": [["$a", 2]]}'),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '{"$datetime": "2026-01-02T03:04:05+00:00"}'),
    (
        datetime(2026, 1, 2, 3, 4, tzinfo=ZoneInfo("Europe/Berlin")),
        '{"$datetime": "2026-01-02T03:04:00", "zone": "Europe/Berlin"}',
    ),
    (date(2026, 1, 2), '{"$date": "2026-01-02"}'),
    (time(3, 4), '{"$time": "03:04:00"}'),
    (timedelta(days=-1, microseconds=7), '{"$timedelta": [-1, 0, 7]}'),
    (Decimal("1.20"), '{"$decimal": "1.20"}'),
    (UUID(int=1), '{"$uuid": "00000000-0000-0000-0000-000000000001"}'),
    (bytearray(b"\x00\xff"), '{"$bytearray": "AP8="}'),
    (
        StoredInstance("Order", {"class": (1,)}, ("note",)),
        '{"$instance": [["class", {"$tuple": [1]}]], "class": "Order", "unset": ["note"]}',
    ),
    (StoredInstance("Status", "OPEN"), '{"$enum": "OPEN", "class": "Status"}'),
    (StoredInstance("Right", ["READ", 8]), '{"$flags": ["READ", 8], "class": "Right"}'),
]


@pytest.mark.parametrize(("value", "written"), KNOWN)
def test_the_format_is_what_it_is_documented_to_be(value: Any, written: str) -> None:
    """These texts are in files that people keep: add, never change."""
    assert json.dumps(operate.to_json(value)) == written
    assert operate.from_json(json.loads(written)) == value
