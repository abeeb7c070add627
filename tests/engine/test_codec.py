"""The codec: every storable value comes back as it was, and bytes from elsewhere do no harm."""

from __future__ import annotations

import math
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable._engine.codec import Codec, MsgpackCodec, decode, encode
from durable._model.errors import StoreDamaged
from durable._model.storage_errors import UnstorableValue
from durable._model.values import CONTAINERS, DEPTH_MAX, copy_value
from tests.model.test_values import INSTANCES, PLAIN, UNSTORABLE, kind_of, nameless_zone

VIENNA = ZoneInfo("Europe/Vienna")

ZONES = st.none() | st.sampled_from(
    [
        UTC,
        VIENNA,
        ZoneInfo("America/New_York"),
        ZoneInfo("UTC"),
        timezone(timedelta(hours=-3, minutes=-30)),
        timezone(timedelta(microseconds=-1)),
        timezone(timedelta(hours=1), "here"),
        timezone(timedelta(0), "nowhere"),
    ]
)

DATETIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    ZONES,
    st.integers(0, 1),
)
TIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.times(),
    ZONES,
    st.integers(0, 1),
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**63) - 2, -(2**63) + 2)
    | st.integers(2**63 - 2, 2**64 + 2)
    | st.integers(min_value=2**64)
    | st.floats()
    | st.text()
    | st.binary()
    | DATETIMES
    | TIMES
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=True)
    | st.sampled_from([Decimal("sNaN"), Decimal("-NaN123"), Decimal("-0"), Decimal("1E+30")])
    | st.uuids()
)
HASHABLE_LEAVES = LEAVES.filter(lambda leaf: not (isinstance(leaf, Decimal) and leaf.is_snan()))

HASHABLES = st.recursive(
    HASHABLE_LEAVES,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.dictionaries(HASHABLES, inner, max_size=3)
        | st.sets(HASHABLES, max_size=3)
        | st.frozensets(HASHABLES, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal and of the same type all the way down, told apart as Python itself does not: 0 and
    -0.0, NaN, 1.0 and Decimal("1.00"), folds and zones."""
    if type(one) is not type(other):
        return False
    if type(one) in CONTAINERS:
        if len(one) != len(other):
            return False
        if isinstance(one, dict):  # the order of the keys is kept too
            return all(
                same(*keys) and same(*items)
                for keys, items in zip(
                    zip(one, other, strict=True),
                    zip(one.values(), other.values(), strict=True),
                    strict=True,
                )
            )
        if isinstance(one, set | frozenset):
            left = list(other)
            for item in one:
                match = next((i for i, mate in enumerate(left) if same(item, mate)), None)
                if match is None:
                    return False
                del left[match]
            return True
        return all(map(same, one, other))
    if isinstance(one, float):
        return (
            math.isnan(one)
            if math.isnan(other)
            else (one, math.copysign(1, one))
            == (
                other,
                math.copysign(1, other),
            )
        )
    if isinstance(one, datetime | time):
        return repr(one) == repr(other) and one.tzinfo == other.tzinfo and one == other
    return repr(one) == repr(other)


@given(VALUES)
@example({1: "int", "1": "str", b"1": "bytes", None: "none"})
@example({True: "bool"})
@example({2**64: 1, -(2**63) - 1: 2, (1, (2,)): 3, frozenset({4}): 5})
@example({"a": {1: {"b": ({2: 3},)}}})
def test_every_storable_value_comes_back(value: Any) -> None:
    """Equal, of the same type, keys in their order; and as the copy for a call would be."""
    decoded = decode(encode(value))

    assert same(decoded, value)
    assert same(decoded, copy_value(value))


@pytest.mark.parametrize("value", PLAIN, ids=kind_of)
def test_the_plain_values_come_back(value: Any) -> None:
    """The codec takes what the copy takes."""
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "leaf",
    [*UNSTORABLE, *INSTANCES, ormsgpack.Ext(2, b"\x90"), ormsgpack.Fragment(b"\x01")],
    ids=kind_of,
)
@pytest.mark.parametrize(
    ("hold", "where"),
    [
        (lambda leaf: leaf, "value"),
        (lambda leaf: [leaf], "value[0]"),
        (lambda leaf: {"users": [0, 1, 2, (leaf,)]}, "value['users'][3][0]"),
        (lambda leaf: {1: {"a": leaf}}, "value[1]['a']"),
        (lambda leaf: ({"a": [{2: leaf}]},), "value[0]['a'][0][2]"),
    ],
)
def test_what_cannot_come_back_is_refused_with_its_place(leaf: Any, hold: Any, where: str) -> None:
    """So is what is of a class that nobody has declared, on either path through the codec."""
    with pytest.raises(UnstorableValue) as caught:
        encode(hold(leaf))

    assert caught.value.where == where


@pytest.mark.parametrize(
    "key", [key for key in (*UNSTORABLE, *INSTANCES) if type(key).__hash__], ids=kind_of
)
def test_what_cannot_come_back_is_refused_as_a_key(key: Any) -> None:
    """Keys are held to the same list: a StrEnum is not written as its text."""
    for keyed in ({key: 1}, {"a": {key: 1}}, [{1: {key: 1}}], {(key,): 1}, {key}, frozenset({key})):
        with pytest.raises(UnstorableValue):
            encode(keyed)


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {1: v}]
)
def test_depth_is_bounded_alike_for_every_container(wrap: Any) -> None:
    """What is as deep as the bound comes back; what is deeper is refused, however deep."""

    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = wrap(value)
        return value

    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    for depth in (DEPTH_MAX + 1, 3_000):
        with pytest.raises(UnstorableValue, match="nested more than"):
            encode(nested(depth))


def test_a_cycle_is_refused() -> None:
    """A value that contains itself has no end to write."""
    cycle: dict[Any, Any] = {"a": []}
    cycle["a"].append(cycle)

    with pytest.raises(UnstorableValue, match="contains itself"):
        encode(cycle)


def test_fold_and_zone_are_kept() -> None:
    """The second 02:30 of the night when the clocks go back is not the first."""
    first = datetime(2024, 10, 27, 2, 30, tzinfo=VIENNA)
    second = first.replace(fold=1)

    assert decode(encode(second)).utcoffset() == second.utcoffset() != first.utcoffset()
    assert decode(encode(second)).tzinfo.key == "Europe/Vienna"


def test_a_zone_without_a_key_comes_back_as_its_offset() -> None:
    """The instant is the same; the rules of the zone are not kept."""
    moment = datetime(2024, 1, 1, tzinfo=nameless_zone())
    decoded = decode(encode(moment))

    assert decoded == moment
    assert decoded.tzinfo == timezone(timedelta(hours=1))


def test_each_read_is_a_value_of_its_own() -> None:
    """What is read is always a copy."""
    encoded = encode({"a": [1]})
    decode(encoded)["a"].append(2)

    assert decode(encoded) == {"a": [1]}


def test_the_bytes_are_the_file_format() -> None:
    """Stores written by this version must be readable for ever: these bytes never change."""
    assert encode(5) == b"\x91\x05"
    assert encode({"a": None}) == b"\x91\x81\xa1a\xc0"
    assert encode({1: True}) == b"\x91\x81\x01\xc3"
    assert encode(2**64) == b"\x91\xc7\x09\x01\x01" + bytes(8)
    assert encode((1,)) == b"\x91\xd5\x02\x91\x01"
    assert encode({(): 0}) == b"\x91\xc7\x05\x03\x92\xd4\x02\x90\x00"
    assert encode({1}) == b"\x91\xd5\x04\x91\x01"
    assert encode(frozenset({1})) == b"\x91\xd5\x05\x91\x01"
    moment = datetime(2024, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    clock = b"\x04\x05\x06\x00\x00\x00\x07\x00"
    assert encode(moment) == b"\x91\xc7\x0d\x06\x07\xe8\x02\x03" + clock + b"\x00"
    assert encode(moment.replace(tzinfo=None)) == b"\x91\xc7\x0c\x06\x07\xe8\x02\x03" + clock
    assert encode(date(2024, 2, 3)) == b"\x91\xd6\x07\x07\xe8\x02\x03"
    assert encode(time(4, 5, 6, 7)) == b"\x91\xd7\x08" + clock
    assert encode(timedelta(-1, 2, 3)) == (
        b"\x91\xc7\x0c\x09\xff\xff\xff\xff\x00\x00\x00\x02\x00\x00\x00\x03"
    )
    assert encode(Decimal("-0.10")) == b"\x91\xc7\x05\x0a-0.10"
    assert encode(UUID(int=1)) == b"\x91\xd8\x0b" + bytes(15) + b"\x01"
    assert encode(time(1, tzinfo=timezone(timedelta(hours=1), "x")))[-8:] == (
        b"\x92\xce\xd6\x93\xa4\x00\xa1x"
    )
    assert encode(time(1, tzinfo=ZoneInfo("UTC")))[-4:] == b"\xa3UTC"


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc9\xff\xff\xff\xff\x02")
@example(b"\x91" * 5_000)
@example(b"\x81\x91\xd4\x02\x90\x01")
@example(b"\x81\x91\xd5\x03\x92\x01\x02\x01")
@example(b"\xd4\x04\x05")
@example(b"\xd5\x04\x91\x90")
@example(b"\xd5\x03\x91\x01")
@example(b"\xc7\x08\x0a1E999999")
@example(b"\xd6\x07\x00\x00\x00\x00")
@example(b"\xc7\x0c\x09\x7f\xff\xff\xff\x00\x00\x00\x02\x00\x00\x00\x03")
def test_any_bytes_are_a_value_or_damage(garbage: bytes) -> None:
    """Whatever stands in the file, reading it ends in a value or in StoreDamaged."""
    for encoded in (garbage, b"\x91" + garbage):
        try:
            decode(encoded)
        except StoreDamaged:
            pass


ZONE_TEXTS = [
    "/etc/passwd",
    "../../etc/passwd",
    "",
    "Europe",
    "\0",
    "é",
    "Europe/Nowhere",
    "x" * 300,
]


@pytest.mark.parametrize("key", ZONE_TEXTS)
def test_no_zone_is_looked_for_outside_of_the_zones(key: str) -> None:
    """A zone's key from a damaged file leads nowhere."""
    payload = bytes(8) + ormsgpack.packb(key)

    with pytest.raises(StoreDamaged):
        decode(b"\x91" + ormsgpack.packb(ormsgpack.Ext(8, payload)))


@given(VALUES, st.data())
def test_a_changed_byte_is_a_value_or_damage(value: Any, draw: st.DataObject) -> None:
    """So are the bytes of a real value with one of them changed, or cut short."""
    encoded = bytearray(encode(value))
    place = draw.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = draw.draw(st.integers(0, 255))
    for damaged in (bytes(encoded), bytes(encoded[:place])):
        try:
            decode(damaged)
        except StoreDamaged:
            pass


def test_deeply_nested_extensions_are_damage() -> None:
    """No depth of nesting in a file leads to a crash."""
    encoded = b"\x90"
    for _ in range(5_000):
        encoded = ormsgpack.packb(ormsgpack.Ext(2, b"\x91" + encoded))

    with pytest.raises(StoreDamaged, match="nested more than"):
        decode(b"\x91" + encoded)


def test_an_unknown_format_byte_is_named() -> None:
    """The text says which byte, and where it may come from."""
    with pytest.raises(StoreDamaged, match=r"format byte 7.*later version"):
        decode(b"\x07\x05")


def test_an_unknown_zone_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store moved to a machine without time zones is met with a word of help."""
    encoded = encode([time(1, tzinfo=VIENNA)])

    def not_found(key: str) -> ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")

    monkeypatch.setattr("durable._engine.extension_types.ZoneInfo", not_found)
    with pytest.raises(StoreDamaged, match=r"Europe/Vienna.*tzdata"):
        decode(encoded)


def test_the_codec_is_a_codec() -> None:
    """What `durable.open` takes as `codec=`."""
    codec = MsgpackCodec()

    assert isinstance(codec, Codec)
    assert codec.decode(codec.encode([1])) == [1]
