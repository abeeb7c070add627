"""A file that `export` wrote, read line by line; an error in it names the line."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, NoReturn

from attrs import define, field, frozen

from durable._engine.batch import Alarm
from durable._engine.catalog import Naming
from durable._engine.codec import Codec
from durable._engine.side_records import AREAS, SIDE_KEY_SIZE_MAX
from durable._model.errors import DurableError
from durable._model.ids import ID_SIZE, IdFactory
from durable._storage.arguments import check_key

from .exporting import FORMAT, VERSION
from .json_values import from_json

KEY_SIZE_MAX = 2_048

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NotAnExport(DurableError, ValueError):
    """The file is not a valid export, or is cut off."""


@frozen
class FileClass:
    """A class of the file."""

    name: str
    script: str | None
    unique_key: str

    @property
    def naming(self) -> Naming:
        return self.script, self.name


@define(eq=False)
class FileObject:
    """A complete object of the file."""

    cls: FileClass
    id: bytes
    name: str | None
    created_us: int
    alarm: Alarm | None
    encoded: dict[str, bytes] = field(factory=dict)
    sides: dict[bytes, bytes] = field(factory=dict)
    size: int = 0


def read_objects(
    lines: BinaryIO, codec: Codec, *, is_new: Callable[[FileObject], bool] = lambda found: True
) -> Iterator[FileObject]:
    """The objects of the file, each complete, from its beginning. *is_new* is called with each
    before its keys are read. Raises NotAnExport."""
    lines.seek(0)
    reading = _Reading(codec, is_new)
    for number, line in enumerate(lines, 1):
        reading.line = number
        yield from reading.take(line)
    reading.check_ended()


@define(eq=False)
class _Reading:
    codec: Codec
    is_new: Callable[[FileObject], bool]
    line: int = 0
    _cls: FileClass | None = None
    _ids: IdFactory | None = None  # of the class
    _current: FileObject | None = None
    _decode: Callable[[str], Any] = field(init=False)
    _objects: int = 0
    _values: int = 0
    _has_ended: bool = False

    def __attrs_post_init__(self) -> None:
        # Made once: json.loads would make one for each line.
        self._decode = json.JSONDecoder(parse_constant=self.refuse).decode

    def take(self, line: bytes) -> Iterator[FileObject]:
        """Read a line; yields the object that it ends."""
        try:
            what = self._decode(line.decode())
        except UnicodeDecodeError as error:
            self.refuse(f"it is not valid UTF-8: {error}")
        except (ValueError, RecursionError) as error:
            if isinstance(error, NotAnExport):
                raise
            why = error.msg if isinstance(error, json.JSONDecodeError) else error
            self.refuse(f"it is not JSON: {why}")
        if not isinstance(what, dict):
            self.refuse("it is not a JSON object")
        if self.line == 1:
            self._check_header(what)
            return
        if self._has_ended:
            self.refuse("something follows the end")
        if "key" in what:
            self._add_value(what)
            return
        if "side" in what:
            self._add_side(what)
            return
        if self._current is not None:
            yield self._current
            self._current = None
        try:
            self._begin(what)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, NotAnExport):
                raise
            self.refuse(f"it cannot be understood: {error!r}")

    def refuse(self, what: str) -> NoReturn:
        raise NotAnExport(f"line {self.line:,} of the file: {what}; nothing was imported")

    def check_ended(self) -> None:
        if not self.line:
            raise NotAnExport("the file is empty")
        if not self._has_ended:
            raise NotAnExport(
                f"the file is cut off after line {self.line:,}: its last line must say the end; "
                f"nothing was imported"
            )

    def _check_header(self, what: dict[str, Any]) -> None:
        if what.get("format") != FORMAT:
            self.refuse(f'it must be {{"format": "{FORMAT}", "version": {VERSION}}}')
        if what.get("version") != VERSION:
            self.refuse(
                f"the file has version {what.get('version')!r}, and this version of durable reads "
                f"version {VERSION}"
            )

    def _begin(self, what: dict[str, Any]) -> None:
        match what:
            case {
                "class": {"name": str(name), "script": str() | None as script, "unique_key": key}
            }:
                if not name.isidentifier() or not isinstance(key, str):
                    self.refuse(f"{name!r} cannot be the name of a class")
                (script or "").encode()  # raises for text that cannot be stored
                self._cls, self._ids = FileClass(name, script, key), IdFactory(key)
            case {"object": {"id": str(hex_id), "name": str() | None as name} as described}:
                self._current = self._object(hex_id, name, described)
            case {"end": {"objects": int(objects), "values": int(values)}}:
                if (objects, values) != (self._objects, self._values):
                    self.refuse(
                        f"there should be {objects:,} objects and {values:,} values, and there are "
                        f"{self._objects:,} and {self._values:,}"
                    )
                self._has_ended = True
            case _:
                self.refuse("it is none of a class, an object, a key and the end")

    def _object(self, hex_id: str, name: str | None, described: dict[str, Any]) -> FileObject:
        if self._cls is None or self._ids is None:
            self.refuse("an object comes before any class")
        raw, ids = bytes.fromhex(hex_id), self._ids
        if len(raw) != ID_SIZE or ids.from_raw(raw).raw != raw:
            self.refuse(f"{hex_id} is not an id of the class {self._cls.name}")
        if name is not None and ids.from_name(name).raw != raw:
            self.refuse(f"{hex_id} is not the id of {name!r}")
        self._objects += 1
        alarm = described.get("alarm")
        found = FileObject(
            self._cls,
            raw,
            name,
            _time_us(described["created"]),
            None if alarm is None else _alarm(alarm),
        )
        if not self.is_new(found):
            who = hex_id if name is None else repr(name)
            self.refuse(f"the object {who} comes twice, or two objects would become the same")
        return found

    def _add_value(self, what: dict[str, Any]) -> None:
        current = self._current
        if current is None:
            self.refuse("a key comes before any object")
        try:
            key = check_key(what["key"], KEY_SIZE_MAX)
            if "encoded" in what:
                encoded = base64.b64decode(what["encoded"], validate=True)
            else:
                encoded = self.codec.encode(from_json(what["value"]))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            self.refuse(f"the value of {what['key']!r:.80} cannot be understood: {error}")
        if key in current.encoded:
            self.refuse(f"the key {key!r:.80} comes twice")
        current.encoded[key] = encoded
        current.size += len(what["key"]) + len(encoded)
        self._values += 1

    def _add_side(self, what: dict[str, Any]) -> None:
        current = self._current
        if current is None:
            self.refuse("a side record comes before any object")
        try:
            key = bytes.fromhex(what["side"])
            encoded = base64.b64decode(what["encoded"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            self.refuse(f"the side record {what['side']!r:.80} cannot be understood: {error}")
        if key[:1] not in AREAS or len(key) > SIDE_KEY_SIZE_MAX:
            self.refuse(f"{what['side']!r:.80} is not the key of a side record")
        if key in current.sides:
            self.refuse(f"the side record {what['side']!r:.80} comes twice")
        current.sides[key] = encoded
        current.size += len(key) + len(encoded)


def _alarm(alarm: dict[str, Any]) -> Alarm:
    retries = alarm.get("retry_count", 0)
    if type(retries) is not int or retries < 0:
        raise ValueError(f"retry_count cannot be {retries!r}")
    return Alarm(_time_us(alarm["due"]), _time_us(alarm["scheduled"]), retries, retries)


def _time_us(text: str) -> int:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text!r} must say its offset, as +00:00 does")
    time_us = (time - _EPOCH) // timedelta(microseconds=1)
    if time_us < 0:
        raise ValueError(f"the time {text!r} is before 1970")
    return time_us
