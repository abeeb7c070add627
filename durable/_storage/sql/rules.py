"""What SQL of an object may do: SQLite's authorizer calls here for each action of a statement.

All that is not allowed is denied. The lists are those of Cloudflare's runtime, without the
functions that reveal how SQLite was built.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import apsw

from durable._model.limits import Limits

USE_TRANSACTION: Final = (
    "To execute a transaction, use ctx.storage.transaction() or ctx.storage.transaction_sync() "
    "instead of the SQL statements BEGIN, COMMIT, ROLLBACK and SAVEPOINT: these undo keys and the "
    "alarm too, and what a turn writes is one transaction by itself"
)
RESERVED_PREFIX: Final = "_cf_"

# Actions on what both their names say, of which the second may be missing.
_NAMED: Final = frozenset(
    {
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_REINDEX,
        apsw.SQLITE_INSERT,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_UPDATE,
    }
)
# Tables that SQLite has of itself, about how it stores things.
_INNER_TABLES: Final = frozenset(
    {"dbstat", "sqlite_dbpage", "sqlite_stmt", "bytecode", "tables_used", "carray", "completion"}
)
# What changes which columns there are, or what a statement sets off: both are remembered.
CHANGES_SCHEMA: Final = frozenset(
    {
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
    }
)
_ALWAYS: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE, apsw.SQLITE_ANALYZE})
# The beginning of a statement, with the space and the comments that SQLite allows between words.
_SPACE: Final = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*"
_NAME: Final = r"""(?:"[^"]*"|'[^']*'|`[^`]*`|\[[^]]*]|[^\s"'`[./-])+"""
_EXPLAINED: Final = rf"{_SPACE}(?:explain\b{_SPACE}(?:query\b{_SPACE}plan\b{_SPACE})?)?"
_VACUUM: Final = re.compile(rf"{_EXPLAINED}vacuum\b", re.IGNORECASE | re.DOTALL)
_RENAME_TO_RESERVED: Final = re.compile(
    rf"{_EXPLAINED}alter\b{_SPACE}table\b{_SPACE}{_NAME}(?:{_SPACE}\.{_SPACE}{_NAME})?"
    rf"{_SPACE}rename\b{_SPACE}to\b{_SPACE}[\"'`\[]?{RESERVED_PREFIX}",
    re.IGNORECASE | re.DOTALL,
)
_VIRTUAL_TABLES: Final = frozenset({"fts5", "fts5vocab", "rtree", "rtree_i32"})

_FUNCTION_NAMES: Final = (
    # of rows
    "abs changes char coalesce concat concat_ws format glob hex ifnull iif instr "
    "last_insert_rowid length like likelihood likely lower ltrim max_scalar min_scalar nullif "
    "octet_length printf quote random randomblob replace round rtrim sign soundex substr "
    "substring total_changes trim typeof unhex unicode unlikely upper zeroblob "
    # of times
    "date time datetime julianday unixepoch strftime timediff current_date current_time "
    "current_timestamp "
    # of groups and windows
    "avg count group_concat max min string_agg sum total row_number rank dense_rank percent_rank "
    "cume_dist ntile lag lead first_value last_value nth_value "
    # of numbers
    "acos acosh asin asinh atan atan2 atanh ceil cos cosh degrees exp floor ln log log2 mod pi "
    "pow radians sin sinh sqrt tan tanh trunc "
    # of JSON
    "json jsonb json_array jsonb_array json_array_length json_extract jsonb_extract -> ->> "
    "json_insert jsonb_insert json_object jsonb_object json_patch jsonb_patch json_remove "
    "jsonb_remove json_replace jsonb_replace json_set jsonb_set json_type json_valid json_quote "
    "json_group_array jsonb_group_array json_group_object jsonb_group_object json_each json_tree "
    # of full text and R*Trees
    "match highlight bm25 snippet rtreecheck "
    # what ALTER TABLE asks for itself
    "sqlite_rename_column sqlite_rename_table sqlite_rename_test sqlite_drop_column "
    "sqlite_rename_quotefix"
)
_FUNCTIONS: Final = frozenset(_FUNCTION_NAMES.split())


class _Takes(Enum):
    """What a pragma may be given."""

    NOTHING = auto()
    SWITCH = auto()  # or nothing, to be asked
    NAME = auto()
    NAME_OR_NOTHING = auto()
    NUMBER_OR_NOTHING = auto()
    NAME_NUMBER_OR_NOTHING = auto()
    ANYTHING = auto()


_PRAGMAS: Final = {
    "data_version": _Takes.NOTHING,
    "page_size": _Takes.NOTHING,
    "table_list": _Takes.ANYTHING,
    "table_info": _Takes.NAME,
    "table_xinfo": _Takes.NAME,
    "index_info": _Takes.NAME,
    "index_list": _Takes.NAME,
    "index_xinfo": _Takes.NAME,
    "foreign_key_list": _Takes.NAME,
    "foreign_key_check": _Takes.NAME_OR_NOTHING,
    "quick_check": _Takes.NAME_NUMBER_OR_NOTHING,
    "optimize": _Takes.NUMBER_OR_NOTHING,
    "case_sensitive_like": _Takes.SWITCH,
    "defer_foreign_keys": _Takes.SWITCH,
    "foreign_keys": _Takes.SWITCH,
    "ignore_check_constraints": _Takes.SWITCH,
    "legacy_alter_table": _Takes.SWITCH,
    "recursive_triggers": _Takes.SWITCH,
    "reverse_unordered_selects": _Takes.SWITCH,
}
_SWITCHED: Final = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})

# The switch that is for the transaction only.
OF_TRANSACTIONS: Final = "defer_foreign_keys"
# Switches that a connection forgets when it is closed: one that takes its place is given them.
KEPT_SWITCHES: Final = frozenset(
    name for name, takes in _PRAGMAS.items() if takes is _Takes.SWITCH
) - {OF_TRANSACTIONS}


def is_allowed(action: int, first: str | None, second: str | None, database: str | None) -> bool:
    """Whether an action of a statement of the object is allowed; of a transaction it never is."""
    if action == apsw.SQLITE_ALTER_TABLE:
        # SQLite gives the database first here, then the table, and a column where one is dropped.
        return first == "main" and _is_name(second)
    if database is not None and database != "main":
        return database == "temp" and action in {apsw.SQLITE_READ, apsw.SQLITE_UPDATE}
    if action == apsw.SQLITE_READ:
        return _is_name(first) and (first or "").lower() not in _INNER_TABLES
    if action in _NAMED:
        return _is_name(first) and _is_name(second)
    if action in _ALWAYS:
        return True
    if action == apsw.SQLITE_FUNCTION:
        return second is not None and second.lower() in _FUNCTIONS
    if action == apsw.SQLITE_PRAGMA:
        return _is_pragma(first or "", second)
    if action in {apsw.SQLITE_CREATE_VTABLE, apsw.SQLITE_DROP_VTABLE}:
        return (second or "").lower() in _VIRTUAL_TABLES and _is_name(first)
    return False


def is_allowed_text(sql: str) -> bool:
    """Whether a statement is allowed, as far as the authorizer cannot decide it: SQLite does not
    pass it the new name of a table, and reports VACUUM only as the start of a transaction."""
    return not _VACUUM.match(sql) and not _RENAME_TO_RESERVED.match(sql)


def _is_name(name: str | None) -> bool:
    return name is None or not name.lower().startswith(RESERVED_PREFIX)


def _is_pragma(name: str, given: str | None) -> bool:
    takes = _PRAGMAS.get(name.lower())
    match takes:
        case None:
            return False
        case _Takes.ANYTHING:
            return True
        case _Takes.NOTHING:
            return given is None
        case _Takes.SWITCH:
            return given is None or given.strip("'\"").lower() in _SWITCHED
        case _Takes.NAME:
            return given is not None and _is_name(given)
        case _Takes.NAME_OR_NOTHING:
            return _is_name(given)
        case _Takes.NUMBER_OR_NOTHING:
            return given is None or _is_number(given)
        case _Takes.NAME_NUMBER_OR_NOTHING:
            return given is None or _is_number(given) or _is_name(given)


def _is_number(text: str) -> bool:
    try:
        return abs(int(text, 0)) < 1 << 31
    except ValueError:
        return False


def limits_of(limits: Limits) -> dict[int, int]:
    """The limits of a connection, as SQLite calls them. Those that have no name of ours are
    Cloudflare's."""
    return {
        apsw.SQLITE_LIMIT_LENGTH: limits.sql_value_size_max,
        apsw.SQLITE_LIMIT_SQL_LENGTH: limits.sql_statement_size_max,
        apsw.SQLITE_LIMIT_COLUMN: limits.sql_columns_max,
        apsw.SQLITE_LIMIT_VARIABLE_NUMBER: limits.sql_bindings_max,
        apsw.SQLITE_LIMIT_FUNCTION_ARG: limits.sql_function_arguments_max,
        apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: limits.sql_pattern_size_max,
        apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
        apsw.SQLITE_LIMIT_COMPOUND_SELECT: 5,
        apsw.SQLITE_LIMIT_VDBE_OP: 25_000,
        apsw.SQLITE_LIMIT_ATTACHED: 0,
        apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
        apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
    }
