"""A store that this process has open, read beside the runtime that owns it.

LMDB opens a file once in a process. So reading a store that is open here uses that environment,
with a reader of its own, on one snapshot until `refresh`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.engine import ANY_NUMBER, OwnReader, Reader
from durable._engine.measures import Measures

from .environment import Environment
from .questions import Questions
from .reader import Reader as LmdbReader

T = TypeVar("T")


@define(eq=False)
class LookedAt(Questions):
    """An `Engine` for reading, from any one thread."""

    environment: Environment
    in_line: Reader = field(init=False)
    keeps_histories: ClassVar[bool] = True
    group_max: ClassVar[int] = ANY_NUMBER
    has_garbage: bool = False
    _reader: LmdbReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = self.environment.new_reader()
        self.in_line = self._reader

    @property
    def path(self) -> str:
        return self.environment.path

    def refresh(self) -> None:
        self._reader.release()

    def new_reader(self) -> OwnReader:
        return self.environment.new_reader()

    def _ask(self, look: Callable[..., T], *args: Any) -> T:
        handle = self.environment.handle
        return self._reader.read(lambda txn: look(txn, handle.databases, *args))

    def measure(self) -> Measures:
        return self.environment.measure()

    # Writing

    def next_keyspace(self) -> int:
        raise self._is_read_only()

    def commit(self, group: Any, *, may_wait: bool = True) -> bool:
        raise self._is_read_only()

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        raise self._is_read_only()

    def collect_garbage(self, count_max: int = 0) -> int:
        raise self._is_read_only()

    def _is_read_only(self) -> Exception:
        return AssertionError(f"{self.path!r} is only looked at")

    def close(self) -> None:
        self._reader.close()
