"""What looks at a store knows of histories."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

import durable.testing
from durable import operate
from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from durable._engine.history_records import clearing_key, write_clearing
from durable._engine.side_records import HISTORY
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable.cli import main

from .conftest import Ledger, Store


async def test_listings_show_objects_with_and_without_an_alarm(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they show those without a history; one that has nothing else is there, too."""
    async with store.open() as runtime:
        objects = runtime.namespace(Ledger)
        await objects.get_by_name("a").put("a", 1)
        await objects.get_by_name("b").set_alarm(datetime(2100, 1, 1, tzinfo=UTC))
        await objects.get_by_name("c").put("c", 1)
        await objects.get_by_name("c").delete_all()

    with operate.look(store.folder) as looked:
        due = {each.name: each.alarm and each.alarm.due for each in looked.objects()}
    assert due == {"a": None, "b": datetime(2100, 1, 1, tzinfo=UTC), "c": None}
    assert await anyio.to_thread.run_sync(main, ["ls", str(store.folder), "Ledger", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["name"]: each["alarm"] and each["alarm"]["due"] for each in lines} == {
        "a": None,
        "b": "2100-01-01T00:00:00+00:00",
        "c": None,
    }


async def test_the_check_knows_what_a_history_may_have(store: Store, tmp_path: Path) -> None:
    """And whose it is."""
    folder = tmp_path / "damaged"
    async with durable.testing.open(folder) as runtime:
        await runtime.namespace(Ledger).get_by_name("a").put("a", 1)
    with operate.look(folder) as looked:
        found = looked.find("Ledger", "a")
    base = found.id.raw[:16]
    handle = ObjectHandle(
        found.cls.number, base, found.number, "a", None, None, None, found.history
    )
    environment = Environment.open(folder, clock=SystemClock())
    try:
        told = Callbacks(lambda: None, lambda error: None)
        environment.commit([
            Batch(
                handle, False, {}, UNCHANGED, told, 0,
                history={HISTORY + b"z": b"", clearing_key(7): write_clearing(99, 1)},
                sides={HISTORY + b"b": b"\0" * 8},
            )
        ])  # fmt: skip
    finally:
        environment.close()

    problems = [problem.what for problem in operate.check(folder)]
    assert len(problems) == 3
    assert any("not a record of a history" in what for what in problems)
    assert any("not where such a record stands" in what for what in problems)
    assert any("99 is in use" in what for what in problems)  # what the clearing keeps
