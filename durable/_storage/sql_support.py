"""SQL for the objects of a runtime, where `durable[sql]` is installed. apsw is imported when the
first object asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._model.limits import Limits

from .records import Records

if TYPE_CHECKING:
    from .sql.connections import Connections
    from .sql.sql import Sql


@define(eq=False)
class SqlSupport:
    """What the databases of one runtime share."""

    _clock: Clock
    _limits: Limits
    _connections: Connections | None = field(default=None, init=False)

    def open(self, records: Records) -> Sql:
        """The SQL of the object whose records these are. DurableError without the extra."""
        try:
            from .sql.connections import Connections  # noqa: PLC0415
            from .sql.database import Database  # noqa: PLC0415
            from .sql.sql import Sql  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "apsw":
                raise
            raise DurableError(
                "ctx.storage.sql needs SQLite as the package apsw brings it, which is not "
                "installed: pip install 'durable[sql]'"
            ) from error
        if self._connections is None:
            self._connections = Connections.of(self._clock, self._limits)
        return Sql(records, Database.of(records, self._connections))

    @property
    def connections(self) -> int:
        """How many databases are open."""
        return 0 if self._connections is None else len(self._connections)

    def close(self) -> None:
        """Close what is open: no object uses its database any more."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None
