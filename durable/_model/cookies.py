"""Cookies: those that a request brings, and the header that sets one.

Rule: what a cookie cannot contain is refused where it is set. So no value from a user can end the
cookie early, add an attribute to it, or begin another header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias

SameSite: TypeAlias = Literal["lax", "strict", "none"]

COOKIE_SIZE_MAX = 4_096
"""Bytes of a name and its value, as in RFC 6265bis. Browsers drop a longer cookie."""

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII).fullmatch
# What RFC 6265 allows in a value: no space, quote, comma, semicolon or backslash.
_is_value = re.compile(r"[!#-+\--:<-\[\]-~]*", re.ASCII).fullmatch
_is_attribute = re.compile(r"[ -:<-~]*", re.ASCII).fullmatch
_SAME_SITE = {"lax": "Lax", "strict": "Strict", "none": "None"}
# Independent of the locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def read_cookies(headers: Iterable[str]) -> Mapping[str, str]:
    """The cookies of the `cookie` headers: of two with one name the first, which is the one with
    the longer path. Malformed ones are ignored."""
    cookies: dict[str, str] = {}
    for header in headers:
        for pair in header.split(";"):
            name, has_value, value = pair.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if has_value and name:
                if len(value) > 1 and value[0] == value[-1] == '"':
                    value = value[1:-1]
                cookies.setdefault(name, value)
    return MappingProxyType(cookies)


def cookie_header(
    name: str,
    value: str,
    *,
    max_age: int | timedelta | None,
    expires: datetime | None,
    path: str | None,
    domain: str | None,
    secure: bool,
    httponly: bool,
    samesite: SameSite | None,
    partitioned: bool,
) -> str:
    """The value of a `set-cookie` header. Raises TypeError and ValueError."""
    _check(name, value)
    _check_prefix(name, path, domain, secure)
    parts = [f"{name}={value}"]
    if max_age is not None:
        parts.append(f"Max-Age={_seconds(max_age)}")
    if expires is not None:
        parts.append(f"Expires={_date(expires)}")
    if path is not None:
        if not _attribute("path", path).startswith("/"):
            raise ValueError(f"the path of a cookie begins with a slash; {path!r} was given")
        parts.append(f"Path={path}")
    if domain is not None:
        parts.append(f"Domain={_attribute('domain', domain)}")
    if samesite is not None:
        if samesite not in _SAME_SITE:
            raise ValueError(f'samesite is "lax", "strict", "none" or None, not {samesite!r}')
        parts.append(f"SameSite={_SAME_SITE[samesite]}")
    if (samesite == "none" or partitioned) and not secure:
        what = "partitioned" if partitioned else 'samesite="none"'
        raise ValueError(f"browsers drop a cookie with {what} that is not secure; give secure=True")
    parts += ["Secure"] * secure + ["HttpOnly"] * httponly + ["Partitioned"] * partitioned
    return "; ".join(parts)


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a cookie is a name and a value of str, not {name!r}: {value!r}")
    if not _is_token(name):
        raise ValueError(f"{name!r} cannot be the name of a cookie")
    if not _is_value(value):
        bad = next(char for char in value if not _is_value(char))
        raise ValueError(
            f"the value of the cookie {name!r} has {bad!r} in it, which no cookie can have; write "
            f"it as urllib.parse.quote does, and read it with unquote"
        )
    if len(name) + len(value) > COOKIE_SIZE_MAX:
        raise ValueError(
            f"the cookie {name!r} has {len(name) + len(value):,} bytes, and browsers drop one of "
            f"more than {COOKIE_SIZE_MAX:,}; keep what it stands for in an object, and its name in "
            f"the cookie"
        )


def _check_prefix(name: str, path: str | None, domain: str | None, secure: bool) -> None:
    lower = name.lower()
    if lower.startswith("__host-") and (not secure or path != "/" or domain is not None):
        raise ValueError(
            f'browsers drop a cookie {name!r} without secure=True and path="/", or with a domain'
        )
    if lower.startswith("__secure-") and not secure:
        raise ValueError(f"browsers drop a cookie {name!r} that is not secure; give secure=True")


def _attribute(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the {what} of a cookie is a str, not {value!r}")
    if not value or not _is_attribute(value):
        raise ValueError(f"{value!r} cannot be the {what} of a cookie")
    return value


def _seconds(age: int | timedelta) -> int:
    if isinstance(age, timedelta):
        return int(age.total_seconds())
    if isinstance(age, bool) or not isinstance(age, int):
        raise TypeError(f"max_age is a whole number of seconds or a timedelta, not {age!r}")
    return age


def _date(time: datetime) -> str:
    if not isinstance(time, datetime):
        raise TypeError(f"expires is a datetime, not {time!r}; max_age takes seconds")
    utc = time.astimezone(UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    return f"{day}, {utc.day:02} {month} {utc.year:04} {utc:%H:%M:%S} GMT"
