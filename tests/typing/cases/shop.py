"""A module of objects, for which `durable types` writes stub classes."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import durable

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")
DAY = timedelta(days=1)


class Order:
    pass


class Base(durable.DurableObject):
    async def inherited(self, items: list[str]) -> int:
        return len(items)


class Shop(Base):
    class Status(Enum):
        OPEN = 1

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("")

    async def place(
        self,
        number: int,
        /,
        order: Order | None = None,
        *more: dt.date,
        at: datetime,
        **rest: Decimal,
    ) -> Status:
        return Shop.Status.OPEN

    def plain(self, after: timedelta = DAY) -> dict[str, Order]:
        return {}

    def soon(self) -> Awaitable[str]:
        raise NotImplementedError

    async def ticks(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @staticmethod
    def fixed(mode: Literal["a", "b"] = "a") -> int:
        return 1

    @classmethod
    async def kind(cls, of: Any) -> None: ...

    @overload
    async def pick(self, key: str) -> str: ...
    @overload
    async def pick(self, key: int) -> int: ...
    async def pick(self, key: str | int) -> str | int:
        return key

    def untyped(self, a, b=1):  # type: ignore[no-untyped-def]
        return a

    again = plain

    def _hidden(self) -> None: ...


class Box(durable.DurableObject, Generic[T]):
    async def take(self) -> T:
        raise NotImplementedError
