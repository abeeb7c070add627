"""What the SQL database of an object does at the turns and transactions of its storage."""

from __future__ import annotations

from typing import Any, Protocol

from durable._model.errors import DurableError

from .savepoint import Savepoint


class SqlTurn(Protocol):
    """The object's SQL database, which is part of its turns and transactions. There is one while it
    has a connection."""

    sql: Any
    """`ctx.storage.sql` meanwhile."""

    def release(self, savepoint: Savepoint, /) -> None:
        """What was written since *savepoint* is kept."""

    def roll_back(self, savepoint: Savepoint, /) -> None:
        """What was written since *savepoint* is undone."""

    def end_turn(self) -> DurableError | None:
        """Write the pages that the turn has changed as side records. What to reset the object with,
        if that cannot be."""

    def clear(self) -> None:
        """Everything is deleted."""

    def close(self) -> None:
        """What was not sealed is gone."""
