"""The history of an object, for the page: its chapters, and what changed between two bookmarks."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any, Final

from durable import operate
from durable.operate import Changed, NoHistory, Store, Unreadable

CHAPTERS_SHOWN: Final = 200
CHANGES_SHOWN: Final = 200
TEXT_SHOWN_MAX: Final = 2_000  # characters of a text, or bytes


def history(store: Store, cls: str, name_or_id: str) -> dict[str, Any]:
    """The bookmarks of an object, the latest first; none for one that keeps no history."""
    try:
        found = operate.history(store, cls, name_or_id)
    except NoHistory:
        return {"is_kept": False}
    return {
        "is_kept": True,
        "oldest": found.oldest,
        "begins": found.begins.isoformat(),
        "bytes": found.size,
        "is_all": len(found.chapters) <= CHAPTERS_SHOWN,
        "chapters": [
            {
                "bookmark": chapter.bookmark,
                "began": chapter.began.isoformat(),
                "keys": chapter.keys,
                "pages": chapter.pages,
                "others": chapter.others,
                "alarm": chapter.alarm,
                "cleared": chapter.cleared,
            }
            for chapter in found.chapters[:CHAPTERS_SHOWN]
        ],
    }


def changes(store: Store, cls: str, name_or_id: str, start: str, end: str | None) -> dict[str, Any]:
    """The differences between two bookmarks, or between one and now."""
    found = operate.changes_between(store, cls, name_or_id, start, end)
    return {
        "changes": [_changed(each) for each in islice(found, CHANGES_SHOWN)],
        "count": len(found),
    }


def _changed(changed: Changed) -> dict[str, Any]:
    return {
        "kind": changed.kind,
        "name": changed.name,
        "before": _side(changed.before),
        "after": _side(changed.after),
    }


def _side(value: Any) -> dict[str, Any]:
    """A value that may be missing, or too large to be shown."""
    if value is operate.MISSING:
        return {"is_there": False}
    if isinstance(value, Unreadable):
        return {"is_there": True, "why": value.why}
    if isinstance(value, str | bytes) and len(value) > TEXT_SHOWN_MAX:
        return {"is_there": True, "why": f"{type(value).__name__} of {len(value):,}"}
    if isinstance(value, datetime):
        return {"is_there": True, "value": value.isoformat()}
    try:
        return {"is_there": True, "value": operate.to_json(value)}
    except (KeyError, ValueError, RecursionError):
        return {"is_there": True, "why": f"{type(value).__name__} that cannot be shown"}
