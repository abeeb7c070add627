"""The values that can be stored, sent and attached: which they are, and how one is copied.

Rule: plain types are recognized by `type()` alone, and cost no more than that. Anything else is
examined last: an instance of an author's class is copied field by field, and one of a subclass of
a plain type becomes what it is a subclass of. What is left is refused, with its place in the value.
"""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import chain
from types import NoneType
from typing import Any, Final, TypeAlias, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

from .instances import Apart, take_apart
from .plain import as_plain
from .storage_errors import UnstorableValue

T = TypeVar("T")

# Immutable, and good whatever they hold.
ATOMS: Final[frozenset[type]] = frozenset(
    {NoneType, bool, int, float, bytes, date, timedelta, Decimal, UUID}
)
# Immutable, and good unless they hold a lone surrogate or a foreign time zone.
LEAVES: Final[frozenset[type]] = frozenset({str, datetime, time})
CONTAINERS: Final[frozenset[type]] = frozenset({list, tuple, dict, set, frozenset})
STORABLE: Final[frozenset[type]] = ATOMS | LEAVES | CONTAINERS | {bytearray}

_are_atoms = ATOMS.issuperset

DEPTH_MAX: Final = 100  # containers inside one another

_WHERE_SIZE_MAX = 120  # characters of a place in an error


@frozen
class Refusal:
    """What a `keep` returns for a leaf that it does not take, and no other `keep` may take."""

    why: str = ""


Keep: TypeAlias = Callable[[Any], object | None]


def copy_value(value: T, keep: Keep | None = None) -> T:
    """A copy that shares nothing with *value* that could change.

    A leaf of a type that is not plain is given to *keep*, and what that returns is put in its
    place; an `Apart` is copied part by part and put together. Where it returns None, or there is no
    *keep*, the leaf is copied as its class says. Raises UnstorableValue, saying where, if that says
    nothing, and for a `Refusal`.
    """
    kind = type(value)
    # The second is for the arguments of a call, which are seldom more than a few numbers.
    if kind in ATOMS or (kind is tuple and _are_atoms(map(type, cast("Any", value)))):
        return value
    try:
        copy: T = _copy(value, keep, DEPTH_MAX)
    except _Refused as refused:
        raise UnstorableValue(refused.why, refused.where()) from None
    return copy


def has_plain_zone(value: datetime | time) -> bool:
    """Whether the time zone, if there is one, can be written down: an offset or a zone's key."""
    zone = value.tzinfo
    if zone is None or type(zone) is timezone:
        return True
    if type(zone) is not ZoneInfo:
        return False
    # A zone without a key has an offset at an instant, but none at a mere time of the day.
    instant = value if isinstance(value, datetime) else None
    if zone.key is None:
        return instant is not None
    try:
        known = ZoneInfo(zone.key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return known is zone or known.utcoffset(instant) == zone.utcoffset(instant)


class _Refused(Exception):
    """A value that is not storable, on its way up through the containers that hold it.

    Each container adds the step that leads to the culprit, so that the good case keeps no path.
    """

    def __init__(self, why: str, culprit: object) -> None:
        super().__init__(why)
        self.why = why
        self.first = self.culprit = culprit
        self._steps: list[str] = []

    def climb(self, holder: object, step: str | None = None) -> _Refused:
        if holder is self.first:
            self._is_cycle(holder)
        else:
            self._steps.append(_step(holder, self.culprit) if step is None else step)
        self.culprit = holder
        return self

    def stood_for(self, plain: object, leaf: object) -> _Refused:
        """What was looked into as *plain* is *leaf* itself."""
        if self.first is plain:
            self.first = leaf
        elif self.first is leaf:
            self._is_cycle(leaf)
        self.culprit = leaf
        return self

    def _is_cycle(self, holder: object) -> None:
        self.why = f"a {type(holder).__name__} that contains itself cannot be stored or sent"
        self._steps.clear()

    def where(self) -> str:
        path = "value" + "".join(reversed(self._steps))
        return path if len(path) <= _WHERE_SIZE_MAX else path[:_WHERE_SIZE_MAX] + "…"


def _copy(value: Any, keep: Keep | None, depth: int) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is str:
        if value.isascii() or _is_encodable(value):
            return value
        raise _Refused("a str with a lone surrogate cannot be stored or sent", value)
    if kind in CONTAINERS:
        if not depth:
            raise _Refused(f"containers nested more than {DEPTH_MAX} deep are refused", value)
        try:
            return _copy_container(value, kind, keep, depth - 1)
        except _Refused as refused:
            raise refused.climb(value) from None
    if kind in LEAVES:
        if has_plain_zone(value):
            return value
        why = (
            f"a {kind.__name__} in a time zone of type {_name(type(value.tzinfo))} cannot be "
            f"stored or sent, only in one of zoneinfo or a fixed offset"
        )
        raise _Refused(why, value)
    return _kept(value, keep, depth)


def _copy_container(value: Any, kind: type, keep: Keep | None, depth: int) -> Any:
    # The conditions are the first lines of _copy, without the call.
    if kind is dict:
        return {
            (key if type(key) is str and key.isascii() else _copy(key, keep, depth)): (
                item
                if (of := type(item)) in ATOMS or (of is str and item.isascii())
                else _copy(item, keep, depth)
            )
            for key, item in value.items()
        }
    copies = [
        item
        if (of := type(item)) in ATOMS or (of is str and item.isascii())
        else _copy(item, keep, depth)
        for item in value
    ]
    return copies if kind is list else kind(copies)


def _kept(leaf: Any, keep: Keep | None, depth: int) -> Any:
    kept = keep(leaf) if keep is not None else None
    if kept is None:
        kept = take_apart(leaf)
    if kept is None:
        plain = as_plain(leaf)
        if plain is None:
            raise _Refused(_why_not(leaf), leaf)
        try:
            return _copy(plain, keep, depth) if type(plain) is not bytearray else plain
        except _Refused as refused:
            raise refused.stood_for(plain, leaf) from None
    if type(kept) is Refusal:
        raise _Refused(kept.why or _why_not(leaf), leaf)
    return _put_together(leaf, kept, keep, depth) if type(kept) is Apart else kept


def _put_together(leaf: object, apart: Apart, keep: Keep | None, depth: int) -> Any:
    if not depth:
        raise _Refused(f"containers nested more than {DEPTH_MAX} deep are refused", leaf)
    parts = {}
    for name, part in apart.parts.items():
        try:
            parts[name] = _copy(part, keep, depth - 1)
        except _Refused as refused:
            raise refused.climb(leaf, f".{name}") from None
    return apart.together(parts)


def _why_not(leaf: object) -> str:
    what = f"{_described(leaf)} cannot be stored or sent"
    if isinstance(leaf, Awaitable):
        return f"{what}: it is to be awaited, so an `await` is missing before the call that gave it"
    return what


def _described(leaf: object) -> str:
    return f"an instance of {_name(type(leaf))}"


def _name(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _step(holder: Any, culprit: object) -> str:
    """How to get from *holder* to the thing inside it that is *culprit*."""
    if isinstance(holder, dict):
        pairs: Iterable[tuple[Hashable, object]] = holder.items()
        steps = chain(
            (f"[{_short(key)}]" for key, item in pairs if item is culprit),
            (f", in its key {_short(key)}" for key in holder if key is culprit),
        )
    elif isinstance(holder, list | tuple):
        steps = chain(f"[{index}]" for index, item in enumerate(holder) if item is culprit)
    else:
        steps = chain(f", in its item {_short(item)}" for item in holder if item is culprit)
    return next(steps)


def _short(value: object) -> str:
    return reprlib.repr(value)
