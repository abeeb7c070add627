"""What SQLite says went wrong, in the words of `SqlError`."""

from __future__ import annotations

from typing import Final

import apsw

from durable._model.storage_errors import SqlConstraint, SqlError, SqlForbidden

# SQLite says of functions and columns only by its words that they are not allowed.
_FORBIDDEN = ("not authorized", "access to ")

MAY_NOT = (
    "SQL in an object may not use other databases, temporary tables, VACUUM, extensions, names "
    "that begin with _cf_, or a function, pragma or virtual table that is not on the list"
)
CONSTRAINTS_VIOLATED: Final = (
    "Durable Object was reset and rolled back to its last known good state because the application "
    "left the database in a state where constraints were violated: "
)
TURN_UNDONE: Final = (
    "SQLite has undone all statements since the turn began, and the object was reset, so that its "
    "keys are undone with it: "
)


def not_authorized() -> SqlForbidden:
    """The error for what SQLite does not ask about, in the words that it has for the rest."""
    return SqlForbidden(f"not authorized: SQLITE_AUTH; {MAY_NOT}", code="SQLITE_AUTH")


def sql_error(error: apsw.Error) -> SqlError:
    """The error for *error*; nothing of apsw's crosses to those above."""
    result = getattr(error, "result", apsw.SQLITE_ERROR)
    extended = getattr(error, "extendedresult", result)
    name = str(apsw.mapping_result_codes.get(result & 0xFF, "SQLITE_ERROR"))
    code = str(apsw.mapping_extended_result_codes.get(extended, name))
    offset = getattr(error, "error_offset", -1)
    text = str(error)
    if offset >= 0:
        text += f" at offset {offset}"
    text += f": {name}"
    if code != name:
        text += f" (extended: {code})"
    kind = SqlError
    if result == apsw.SQLITE_CONSTRAINT:
        kind = SqlConstraint
    elif result == apsw.SQLITE_AUTH or str(error).startswith(_FORBIDDEN):
        kind = SqlForbidden
        text += f"; {MAY_NOT}"
    return kind(text, code=code, offset=offset if offset >= 0 else None)
