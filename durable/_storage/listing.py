"""Listing: which keys a `list()` or a `count()` is about. Pure functions.

The bounds are as in Cloudflare's runtime. Keys are ordered by their UTF-8 bytes, which is how
Python orders valid str, by code point.
"""

from __future__ import annotations

from .arguments import check_text
from .key_ranges import KeyRange

_CODE_POINT_MAX = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def bounds(
    call: str,
    *,
    start: str | None,
    start_after: str | None,
    end: str | None,
    prefix: str | None,
) -> KeyRange | None:
    """The keys asked for, as lower <= key < upper; None: there can be none.

    `start` is inclusive, `start_after` and `end` are exclusive, in either direction of the list.
    Raises TypeError (a bound that is no str) and ValueError (`start` with `start_after`).
    """
    if start is not None and start_after is not None:
        raise ValueError(
            f"{call} cannot be called with both start and start_after values. Give start to begin "
            f"with that key, start_after to begin behind it"
        )
    lower = ""
    if start is not None:
        lower = check_text(start, "start")
    elif start_after is not None:
        lower = check_text(start_after, "start_after") + "\0"
    upper = None if end is None else check_text(end, "end")
    if prefix is not None and check_text(prefix, "prefix"):
        below = _within_prefix(lower, upper, str.__str__(prefix))
        if below is None:
            return None
        lower, upper = below
    return None if upper is not None and upper <= lower else (lower, upper)


def _within_prefix(lower: str, upper: str | None, prefix: str) -> KeyRange | None:
    if lower < prefix:
        lower = prefix
    elif not lower.startswith(prefix):
        return None
    if upper is None:
        return lower, after_prefix(prefix)
    if upper <= prefix:
        return None
    return lower, upper if upper.startswith(prefix) else after_prefix(prefix)


def after_prefix(prefix: str) -> str | None:
    """The first key behind all that begin with *prefix*; None: there is none."""
    stem = prefix.rstrip(chr(_CODE_POINT_MAX))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)


def check_limit(limit: int | None) -> int | None:
    """Raises TypeError (no int, or a bool) and ValueError (below 1)."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"list() takes an int as limit, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"List limit must be positive. {limit} was given")
    return limit
