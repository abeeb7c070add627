"""The table `[history]` of a configuration file: for how many days the objects of a class can go
back, by its name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from durable._model.errors import InvalidConfig

from .config_table import Table

# The limit of a timedelta.
DAYS_MAX: Final = 999_999_999


def histories_of(table: Table) -> dict[str, float]:
    """What the file says. Raises InvalidConfig."""
    found = table.table("history")
    for name, days in found.entries.items():
        if not name.isidentifier():
            raise found.error(name, f"{name!r} cannot be the name of a class")
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= DAYS_MAX:
            raise found.error(
                name, f"it must be a number of days, up to {DAYS_MAX:,}, and not {days!r}"
            )
    return dict(found.entries)


def check_classes(
    file: object, table: str, histories: Iterable[str], classes: Iterable[str]
) -> None:
    """Each name is that of a class: a slip would leave one without the history meant for it."""
    classes = list(classes)
    for name in histories:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(classes)}"
            raise InvalidConfig(
                str(file), table, name, f"the main module has no DurableObject of that name; {hint}"
            )
