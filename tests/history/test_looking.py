"""What looks at a store knows of histories."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import anyio
import pytest

from durable import operate
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
