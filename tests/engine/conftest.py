"""An engine of each kind for each test of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field

from durable._engine.engine import Engine

from .kinds import Kind, Postgres, kinds
from .kit import Clock

KINDS = tuple(kinds())


@define
class Opened:
    """An engine that is open, and its kind."""

    kind: Kind
    folder: Path
    clock: Clock = field(factory=Clock)
    engine: Engine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.engine = self.kind.open(self.folder, self.clock)

    def reopen(self) -> Engine:
        """The same store, closed and opened again."""
        self.engine.close()
        self.engine = self.kind.open(self.folder, self.clock)
        return self.engine

    def close(self) -> None:
        self.kind.check(self.engine)
        self.engine.close()
        if isinstance(self.kind, Postgres):
            self.kind.drop()


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """An open store; at the end of the test what is stored must be whole."""
    opened = Opened(kinds()[request.param], tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def engine(opened: Opened) -> Engine:
    """The engine of an open store."""
    return opened.engine


@pytest.fixture
def clock(opened: Opened) -> Clock:
    """The clock that the engine asks."""
    return opened.clock


@pytest.fixture
def kept(opened: Opened) -> Opened:
    """An open store of a kind that is there again when it is opened again."""
    if not opened.kind.keeps:
        pytest.skip("what this engine stores is gone when it is closed, as it should be")
    return opened


@pytest.fixture(scope="module", params=KINDS)
def one_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine for all examples of a property."""
    opened = Opened(kinds()[request.param], tmp_path_factory.mktemp("one") / "store")
    yield opened.engine
    opened.close()
