"""The headers of a message: a multidict that accepts only what a message can have.

Rule: headers are checked as they are set, when the message is made and afterwards alike. A name is
a token; a value has no line break and no NUL, and latin-1 can express it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from multidict import CIMultiDict

HeadersInit: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]] | None
"""The types of headers. They are copied."""

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII).fullmatch
_has_forbidden = re.compile(r"[\r\n\0]").search


class Headers(CIMultiDict[str]):
    """Headers by their names, compared without case.

    Setting one raises TypeError for anything but a str, and ValueError for a name or a value that
    no message can have.
    """

    __slots__ = ()

    def __init__(self, arg: Any = None, /, **more: str) -> None:
        super().__init__()
        self.extend(arg or (), **more)

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(*_checked(name, value))

    def add(self, name: str, value: str) -> None:
        super().add(*_checked(name, value))

    def setdefault(self, name: str, default: Any = None) -> Any:
        return super().setdefault(*_checked(name, default))

    def extend(self, arg: Any = (), /, **more: str) -> None:
        super().extend(_pairs(arg, more))

    def update(self, arg: Any = (), /, **more: str) -> None:
        super().update(_pairs(arg, more))

    def merge(self, arg: Any = (), /, **more: str) -> None:
        super().merge(_pairs(arg, more))


def _pairs(arg: Any, more: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers to set, all of them checked before the first is set."""
    try:
        given = arg.items() if isinstance(arg, Mapping) else arg
        pairs = [(name, value) for name, value in given]
    except (TypeError, ValueError):
        raise TypeError(
            f"headers must be a mapping or an iterable of pairs of str, not {arg!r}"
        ) from None
    return [_checked(name, value) for name, value in (*pairs, *more.items())]


def _checked(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header must be a name and a value of str, not {name!r}: {value!r}")
    if not _is_token(name):
        raise ValueError(f"{name!r} is not a valid header name")
    value = value.strip(" \t\r\n")
    if _has_forbidden(value):
        raise ValueError(f"the value of header {name!r} has a line break or NUL in it")
    if not value.isascii():
        _check_latin_1(name, value)
    # A subclass of str may behave differently each time.
    return name, value if type(value) is str else str.__str__(value)


def _check_latin_1(name: str, value: str) -> None:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the value of header {name!r} has {value[error.start]!r} in it, which latin-1 cannot "
            f"express; write it in ASCII, as urllib.parse.quote does"
        ) from None
