"""Copies by value: what passes, what is refused and where, and what shares nothing.

Instances of authors' classes have a file of their own, test_instances.py.
"""

from __future__ import annotations

import enum
import io
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from durable._engine.codec import decode, encode
from durable._model.storage_errors import UnstorableValue
from durable._model.values import DEPTH_MAX, STORABLE, Refusal, copy_value, has_plain_zone


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()


class Foreign(tzinfo):
    def utcoffset(self, instant: datetime | None) -> timedelta:
        return timedelta(hours=1)


@dataclass(frozen=True)
class Point:
    x: int = 0


Pair = namedtuple("Pair", "a b")

# Copied as their classes say, and stored where these are declared.
INSTANCES: list[Any] = [Colour.RED, Number.ONE, Word.YES, Point(), Pair(1, 2)]

UNSTORABLE: list[Any] = [
    memoryview(b"x"),
    "\ud800",
    "a\udfffb",
    object(),
    1j,
    range(3),
    len,
    int,
    datetime(2020, 1, 1, tzinfo=Foreign()),
    time(1, tzinfo=Foreign()),
]

PLAIN: list[Any] = [
    None,
    True,
    2**200,
    -0.0,
    "é",
    b"x",
    [],
    (),
    {},
    set(),
    frozenset(),
    datetime(2020, 1, 1),
    datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Vienna")),
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1), "here")),
    time(1, tzinfo=UTC),
    timedelta(1),
    Decimal("sNaN"),
    UUID(int=5),
    [1, [2, ("a", {"b": {3, frozenset({None, (1, 2)})}})]],
    {1: 2, None: 3, (1, "x"): {"k": []}, frozenset({1}): ()},
]


def kind_of(value: Any) -> str:
    """The id of a case: the same in every process, unlike the repr of an object or a set."""
    return type(value).__name__


@pytest.mark.parametrize("value", PLAIN, ids=kind_of)
def test_a_plain_value_is_copied_as_it_is(value: Any) -> None:
    """What is storable comes out of the copy equal and of the same type."""
    copy = copy_value(value)

    assert repr(copy) == repr(value) or copy == value  # NaN equals nothing; sets have no order
    assert type(copy) is type(value)


@pytest.mark.parametrize("leaf", UNSTORABLE, ids=kind_of)
@pytest.mark.parametrize(
    ("hold", "where"),
    [
        (lambda leaf: leaf, "value"),
        (lambda leaf: [0, leaf], "value[1]"),
        (lambda leaf: {"users": [0, 1, 2, (leaf,)]}, "value['users'][3][0]"),
        (lambda leaf: {"a": {7: leaf}}, "value['a'][7]"),
    ],
)
def test_what_is_not_storable_is_refused_with_its_place(leaf: Any, hold: Any, where: str) -> None:
    """The error says where in the value the culprit is."""
    with pytest.raises(UnstorableValue) as caught:
        copy_value(hold(leaf))

    assert caught.value.where == where
    assert isinstance(caught.value, TypeError)


def test_culprits_in_keys_and_sets_are_named() -> None:
    """What has no index is shown itself."""
    with pytest.raises(UnstorableValue) as in_key:
        copy_value({"x": {(1, 1j): 2}})
    with pytest.raises(UnstorableValue) as in_set:
        copy_value([{2j}])

    assert in_key.value.where == "value['x'], in its key (1, 1j)[1]"
    assert in_set.value.where == "value[0], in its item 2j"


def test_a_copy_shares_nothing_that_can_change() -> None:
    """Later changes to the original do not reach the copy."""
    original: dict[str, Any] = {"list": [1], "set": {1}, "tuple": ([1],), "dict": {"a": [1]}}
    copy = copy_value(original)
    original["list"].append(2)
    original["set"].add(2)
    original["tuple"][0].append(2)
    original["dict"]["a"].append(2)

    assert copy == {"list": [1], "set": {1}, "tuple": ([1],), "dict": {"a": [1]}}


def test_a_container_that_contains_itself_is_refused() -> None:
    """A cycle is said to be one, at the outermost place where it closes."""
    inner: list[Any] = [1]
    inner.append({"again": inner})

    with pytest.raises(UnstorableValue, match="contains itself") as caught:
        copy_value({"a": [0, inner]})

    assert caught.value.where == "value['a'][1]"


def test_one_list_in_two_places_is_no_cycle() -> None:
    """Sharing is undone by the copy, not refused."""
    shared = [1]
    copy = copy_value([shared, shared])

    assert copy == [[1], [1]]
    assert copy[0] is not copy[1]


def test_depth_is_bounded() -> None:
    """As deep as the bound passes; one deeper is refused, and so is very deep."""

    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    assert copy_value(nested(DEPTH_MAX)) == nested(DEPTH_MAX)
    for depth in (DEPTH_MAX + 1, 100_000):
        with pytest.raises(UnstorableValue, match="nested more than 100 deep") as caught:
            copy_value(nested(depth))
        assert len(str(caught.value)) < 500


def test_keep_decides_about_unknown_leaves() -> None:
    """Its answer takes the place of the leaf, in values, keys and sets; storable leaves are not
    its business."""
    asked: list[object] = []

    def keep(leaf: object) -> object | None:
        asked.append(leaf)
        return ("kept", leaf) if isinstance(leaf, Point) else None

    copy = copy_value({"a": [Point(1)], Point(2): {Point(3)}, "b": 1}, keep)

    assert copy == {"a": [("kept", Point(1))], ("kept", Point(2)): {("kept", Point(3))}, "b": 1}
    assert asked == [Point(1), Point(2), Point(3)]


def test_keep_may_refuse() -> None:
    """It is asked once, and may say why."""
    asked: list[object] = []

    def keep(leaf: object) -> object:
        asked.append(leaf)
        return Refusal("points are not wanted here")

    with pytest.raises(UnstorableValue, match="points are not wanted here") as caught:
        copy_value([Point()], keep)

    assert caught.value.where == "value[0]"
    assert asked == [Point()]


class Ticket(int):
    """A subclass that lies about itself."""

    def __index__(self) -> int:
        return 0

    __int__ = __index__


class Moment(datetime):
    pass


class Zone(ZoneInfo):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Text("x"), "x"),
        (Ticket(7), 7),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (type("Floating", (float,), {})(1.5), 1.5),
        (type("Bytes", (bytes,), {})(b"x"), b"x"),
        (type("Buffer", (bytearray,), {})(b"x"), bytearray(b"x")),
        (type("Items", (list,), {})([1, Text("y")]), [1, "y"]),
        (type("Fixed", (tuple,), {})((1,)), (1,)),
        (type("Bag", (set,), {})({1}), {1}),
        (type("FrozenBag", (frozenset,), {})({1}), frozenset({1})),
        (Moment(2020, 1, 2, 3, tzinfo=UTC), datetime(2020, 1, 2, 3, tzinfo=UTC)),
        (
            Moment(2020, 1, 2, tzinfo=Zone("Europe/Vienna")),
            datetime(2020, 1, 2, tzinfo=ZoneInfo("Europe/Vienna")),
        ),
        (type("Day", (date,), {})(2020, 1, 2), date(2020, 1, 2)),
        (type("Clock", (time,), {})(1, 2), time(1, 2)),
        (type("Span", (timedelta,), {})(1, 2, 3), timedelta(1, 2, 3)),
        (type("Money", (Decimal,), {})("1.20"), Decimal("1.20")),
        (type("Key", (UUID,), {})(int=5), UUID(int=5)),
        ({Text("k"): [Text("v")]}, {"k": ["v"]}),
    ],
)
def test_a_subclass_of_a_plain_type_becomes_that_type(value: Any, plain: Any) -> None:
    """Whatever it has overridden, and wherever it is; the same in the codec as in the copy."""
    for found in (copy_value(value), decode(encode(value))):
        assert repr(found) == repr(plain)
        assert type(found) is type(plain)


def test_an_ordered_dict_keeps_the_order_that_it_shows() -> None:
    """It has one beside that of the dict that it is."""
    moved = OrderedDict(a=1, b=2)
    moved.move_to_end("a")

    assert list(copy_value(moved)) == list(decode(encode(moved))) == ["b", "a"]


def test_a_culprit_in_a_subclass_has_its_place() -> None:
    """The way to it leads through what the subclass is a subclass of."""
    with pytest.raises(UnstorableValue) as caught:
        copy_value([defaultdict(list, a=[1j])])

    assert caught.value.where == "value[0]['a'][0]"


def test_a_subclass_that_contains_itself_is_refused() -> None:
    """Where the cycle closes."""
    inner: defaultdict[str, Any] = defaultdict(list)
    inner["me"] = inner

    with pytest.raises(UnstorableValue, match="defaultdict that contains itself") as caught:
        copy_value([0, inner])

    assert caught.value.where == "value[1]"


def test_a_bytearray_comes_back_as_one_and_shares_nothing() -> None:
    """It is its own type in what is stored, so that it can be changed again."""
    value = {"a": [bytearray(b"x")], 1: bytearray()}
    for found in (copy_value(value), decode(encode(value))):
        assert found == value
        assert type(found["a"][0]) is bytearray
        found["a"][0] += b"y"
    assert value["a"][0] == b"x"


def test_what_keep_raises_passes() -> None:
    """An error of keep's own is not ours to translate."""

    def keep(leaf: object) -> object:
        raise LookupError(leaf)

    with pytest.raises(LookupError):
        copy_value([Point()], keep)


def test_zones_without_a_key_have_an_offset_at_an_instant_only() -> None:
    """A zone read from a file has rules but no name to find them by."""
    nameless = nameless_zone()

    assert has_plain_zone(datetime(2020, 1, 1, tzinfo=nameless))
    assert not has_plain_zone(time(1, tzinfo=nameless))
    assert not has_plain_zone(datetime(2020, 1, 1, tzinfo=nameless_zone("No/Such")))


def test_the_list_of_storable_types_is_the_contract() -> None:
    """The types that the error names are those that pass."""
    plain = str(UnstorableValue("x")).partition("made of ")[2].partition(", and of ")[0]
    named = plain.replace(" and ", ", ").split(", ")

    assert sorted(named) == sorted(
        kind.__name__ if kind is not type(None) else "None" for kind in STORABLE
    )


def nameless_zone(key: str | None = None) -> ZoneInfo:
    # The smallest file that zoneinfo reads: version 1, one kind of local time, at +01:00.
    header = (
        b"TZif" + b"\0" + b"\0" * 15 + b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 0, 1, 4))
    )
    body = (3600).to_bytes(4, "big", signed=True) + b"\0\0" + b"CET\0"
    return ZoneInfo.from_file(io.BytesIO(header + body), key=key)


def test_what_is_read_is_a_datetime_while_a_library_freezes_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a library puts a subclass in the place of each module's name."""
    from durable._engine import extension_types
    from durable._model import plain

    values = [datetime(2020, 1, 2, tzinfo=UTC), date(2020, 1, 2), time(3)]
    encoded = encode(values)
    for module in (extension_types, plain):
        monkeypatch.setattr(module, "datetime", Moment)

    for found in (decode(encoded), copy_value([Moment(2020, 1, 2, tzinfo=UTC), *values[1:]])):
        assert found == values
        assert [type(each) for each in found] == [datetime, date, time]


def test_what_is_to_be_awaited_is_refused_with_the_missing_await() -> None:
    """Such as `return self.ctx.storage.get("value")`."""

    class Given:
        def __await__(self) -> Any:
            yield

    with pytest.raises(UnstorableValue, match="an `await` is missing") as caught:
        copy_value({"a": [Given()]})

    assert caught.value.where == "value['a'][0]"
    with pytest.raises(UnstorableValue, match="an `await` is missing"):
        copy_value(Given(), lambda leaf: Refusal())
