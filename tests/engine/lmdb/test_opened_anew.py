"""A store that LMDB gave up after a failed write is opened anew by whoever needs it next."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import lmdb
import pytest

from durable._engine.codec import encode
from durable._lmdb import handle as handles
from durable._lmdb.environment import Environment
from durable._model.errors import CommitFailed

from ..kit import batch_of, open_store, place_of

VALUE = encode(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Environment]:
    environment = open_store(tmp_path / "store")
    environment.commit([batch_of(environment, place_of(environment, "one"), {"key": VALUE})])
    environment.refresh()
    yield environment
    environment.close()


class Opening:
    """Opens LMDB, but fails as often as it is told, and stands still before it while it is held."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.is_reached, self.may_go_on = Event(), Event()
        self.may_go_on.set()
        self._open = handles.open_lmdb

    def __call__(self, *args: Any, **options: Any) -> lmdb.Environment:
        self.is_reached.set()
        assert self.may_go_on.wait(30)
        if self.failures:
            self.failures -= 1
            raise OSError(24, "Too many open files")
        return self._open(*args, **options)

    def hold(self) -> None:
        self.is_reached.clear()
        self.may_go_on.clear()


@pytest.fixture
def opening(store: Environment, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """How LMDB is opened from now on; *store* was given up, and could not be opened anew."""
    place_of(store, "one")
    opening = Opening(failures=1)
    monkeypatch.setattr(handles, "open_lmdb", opening)
    store.handle._must_reopen = True
    with pytest.raises(CommitFailed, match="could not be opened anew"):
        store.handle.write(lambda txn: None)
    return opening


def names(store: Environment) -> list[str]:
    return [record.name for record in store.classes()]


def test_a_read_opens_it(store: Environment, opening: Opening) -> None:
    opening.failures = 1
    with pytest.raises(CommitFailed, match="Too many open files"):
        names(store)

    assert names(store) == ["Counter"]


@pytest.mark.parametrize("failures", [0, 1])
def test_a_read_waits_while_a_write_opens_it(
    store: Environment, opening: Opening, failures: int
) -> None:
    """The read that comes meanwhile opens it by itself if the write could not."""
    opening.failures = failures
    opening.hold()
    with ThreadPoolExecutor(2) as threads:
        write = threads.submit(store.handle.write, lambda txn: None)
        assert opening.is_reached.wait(30)
        read = threads.submit(names, store)
        with pytest.raises(TimeoutError):  # it is there, or on its way
            read.result(timeout=0.05)
        opening.may_go_on.set()

        assert read.result(30) == ["Counter"]
        if failures:
            with pytest.raises(CommitFailed):
                write.result(30)


def test_a_write_waits_while_a_read_opens_it(store: Environment, opening: Opening) -> None:
    opening.hold()
    with ThreadPoolExecutor(2) as threads:
        read = threads.submit(names, store)
        assert opening.is_reached.wait(30)
        write = threads.submit(store.handle.write, lambda txn: None)
        opening.may_go_on.set()

        assert read.result(30) == ["Counter"]
        write.result(30)


def test_a_read_waits_for_the_write_that_made_lmdb_give_up(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when that has failed, and before it has opened LMDB anew."""
    begin, is_asked, is_mended = handles.begin_read, Event(), Event()

    def begin_unless_given_up(*args: Any, **options: Any) -> Any:
        if not is_mended.is_set():
            is_asked.set()
            raise lmdb.PanicError("mdb_txn_begin", -30795)
        return begin(*args, **options)

    monkeypatch.setattr(handles, "begin_read", begin_unless_given_up)
    with ThreadPoolExecutor(1) as threads:
        with store.handle.write_lock:  # as the write that has failed has it
            read = threads.submit(names, store)
            assert is_asked.wait(30)
            is_mended.set()

        assert read.result(30) == ["Counter"]
