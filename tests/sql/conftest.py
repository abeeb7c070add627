"""A store and an object whose SQL a test runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import durable
import durable.testing
from tests.promises.conftest import Start, Store, runtime, start, store

__all__ = ["Desk", "Do", "Start", "Store", "runtime", "start", "store"]

pytest.importorskip("apsw")

T = TypeVar("T")
Do = Callable[[Callable[["Desk"], T]], Any]


class Desk(durable.DurableObject):
    """Tests run their code in it, as events."""

    made = 0

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        type(self).made += 1
        self.kept: list[Any] = []

    @property
    def sql(self) -> Any:
        return self.ctx.storage.sql

    def rows(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        return list(self.sql.exec(query, *bindings).raw())

    def count(self, table: str = "t") -> int:
        count: int = self.rows(f"SELECT count(*) FROM {table}")[0][0]
        return count

    async def insert(self, value: Any) -> None:
        self.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
        self.sql.exec("INSERT INTO t VALUES (?)", value)

    async def values(self) -> list[Any]:
        self.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
        return [value for (value,) in self.rows("SELECT value FROM t")]


@pytest.fixture
async def desks(runtime: durable.Runtime) -> durable.Namespace[Desk]:
    """The namespace of the class."""
    return runtime.namespace(Desk)


@pytest.fixture
async def do(desks: durable.Namespace[Desk]) -> Do[Any]:
    """Runs a function with the live object "a", as an event: `await do(lambda desk: …)`."""

    def run(fn: Callable[[Desk], Any]) -> Any:
        return durable.testing.run_in_object(desks.get_by_name("a"), lambda desk, _: fn(desk))

    return run
