"""Everything that reads bytes or text from outside answers what was written, or a clear error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable._deploy.config import read_config
from durable._engine.batch import Alarm, ObjectRecord
from durable._engine.catalog import ClassRecord
from durable._engine.view import Malformed
from durable._lmdb import layout
from durable._model.errors import InvalidConfig, InvalidId
from durable._model.ids import IdFactory

BYTES = st.binary(max_size=600)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BASES = st.binary(min_size=16, max_size=16)
ALARMS = st.none() | st.builds(Alarm, U64, U64, U32, U32)
TEXT = st.text(max_size=50)

READERS: list[Callable[[bytes], Any]] = [
    layout.read_format,
    layout.read_number,
    layout.read_record_key,
    layout.read_object_key,
    lambda raw: layout.read_object(b"key", raw),
    layout.read_alarm_key,
    layout.read_class_number,
    lambda raw: layout.read_class(layout.class_key(1), raw),
    layout.read_tags,
    layout.read_tags_key,
    layout.read_garbage_key,
    layout.read_garbage_class_key,
]


@pytest.mark.parametrize("read", READERS)
@given(raw=BYTES)
def test_any_bytes_are_a_record_or_malformed(read: Callable[[bytes], Any], raw: bytes) -> None:
    """No other error, whatever is in the file."""
    with contextlib.suppress(Malformed):
        read(raw)


@given(record=st.builds(ObjectRecord, U64, U64, st.none() | TEXT, ALARMS, U64), change=st.data())
def test_the_record_of_an_object_comes_back_or_is_malformed(
    record: ObjectRecord, change: st.DataObject
) -> None:
    """As it is, and with one byte of it changed."""
    raw = layout.write_object(b"key", record)
    assert layout.read_object(b"key", raw) == record

    place = change.draw(st.integers(0, len(raw) - 1))
    changed = raw[:place] + bytes([change.draw(st.integers(0, 255))]) + raw[place + 1 :]
    with contextlib.suppress(Malformed):
        layout.read_object(b"key", changed)


@given(number=U32, key=TEXT, name=TEXT, script=st.none() | TEXT, is_deleted=st.booleans())
def test_the_record_of_a_class_comes_back(
    number: int, key: str, name: str, script: str | None, is_deleted: bool
) -> None:
    """Deleted or not."""
    record = ClassRecord(number, key, name, script, is_deleted)

    assert layout.read_class(layout.class_key(number), layout.write_class(record)) == record


@given(one=st.tuples(U64, U32, BASES), other=st.tuples(U64, U32, BASES))
def test_the_keys_of_alarms_sort_by_time(
    one: tuple[int, int, bytes], other: tuple[int, int, bytes]
) -> None:
    """And come back."""
    assert layout.read_alarm_key(layout.alarm_key(*one)) == layout.DueAlarm(*one)
    assert (layout.alarm_key(*one) < layout.alarm_key(*other)) == (one < other)


@given(text=st.text(max_size=80) | st.text("0123456789abcdefABCDEF", min_size=60, max_size=68))
def test_any_text_is_an_id_of_the_class_or_invalid(text: str) -> None:
    """Nobody can make one up."""
    with pytest.raises(InvalidId):
        IdFactory("Counter").from_string(text)


@given(name=TEXT, key=TEXT, place=st.integers(0, 63), digit=st.sampled_from("0123456789abcdef"))
def test_an_id_with_one_digit_changed_is_invalid(
    name: str, key: str, place: int, digit: str
) -> None:
    """Or it is the id."""
    ids = IdFactory(key)
    text = str(ids.from_name(name))
    changed = text[:place] + digit + text[place + 1 :]

    if changed == text:
        assert ids.from_string(changed) == ids.from_name(name)
    else:
        with pytest.raises(InvalidId):
            ids.from_string(changed)


TOML_VALUES: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(['"a"', "1", "-0.5", "true", "[]", "{}", "2020-01-01", '"../x"', '""']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(
            st.tuples(st.sampled_from(["name", "class_name", "tag", "x"]), inner), max_size=3
        ).map(
            lambda pairs: (
                "{" + ", ".join(f"{key} = {value}" for key, value in dict(pairs).items()) + "}"
            )
        )
    ),
    max_leaves=6,
)
TOML_NAMES = [
    "name", "main", "path", "vars.x", "vars", "env.dev.vars", "env.dev", "env", "migrations",
    "durable_objects.bindings", "durable_objects", "script_name", "routes",
]  # fmt: skip
TOML_LINES = st.tuples(st.sampled_from(TOML_NAMES), TOML_VALUES).map(" = ".join) | st.sampled_from(
    [
        "[[migrations]]",
        "[vars]",
        "[env.dev]",
        "[[durable_objects.bindings]]",
        'tag = "v1"',
        'new_classes = ["A"]',
        'renamed_classes = [{from = "A", to = "B"}]',
        "= x",
        '"',
    ]
)


@pytest.mark.parametrize("environment", [None, "dev"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(TOML_LINES, max_size=8).map("\n".join) | st.text(max_size=100))
def test_any_file_is_a_configuration_or_invalid(
    tmp_path: Path, text: str, environment: str | None
) -> None:
    """No other error, whatever is in it."""
    file = tmp_path / "wrangler.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(InvalidConfig):
        read_config(file, environment)
