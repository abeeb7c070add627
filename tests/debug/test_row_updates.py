"""Debug mode warns of an update by SQL by which another one is lost, and of nothing else."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

pytest.importorskip("apsw")
pytestmark = pytest.mark.backends("asyncio", "trio")

Wait = Callable[[], Awaitable[object]]


class Shop(durable.DurableObject):
    """Sells what its table has; other events come between its reads and its writes."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.ctx.storage.sql.exec(
            "CREATE TABLE IF NOT EXISTS stock (id INTEGER PRIMARY KEY, item UNIQUE, left, price);"
            "INSERT OR IGNORE INTO stock VALUES (1, 'apple', 10, 2), (2, 'pear', 10, 3);"
            "CREATE VIEW IF NOT EXISTS apples AS SELECT left FROM stock WHERE id = 1;"
            "CREATE TABLE IF NOT EXISTS sale (item)"
        )
        self.may_go_on = anyio.Event()

    def left(self, id: int = 1) -> Any:
        query = "SELECT left FROM stock WHERE id = ?"
        return self.ctx.storage.sql.exec(query, id).one()["left"]

    def set_left(self, left: int, id: int = 1) -> None:
        self.ctx.storage.sql.exec("UPDATE stock SET left = ? WHERE id = ?", left, id)

    async def others(self) -> None:
        """Wait for the outside, until another event has let this one go on."""
        await self.may_go_on.wait()

    async def other(self, what: str) -> None:
        """Another event, which writes."""
        await getattr(self, what)()
        self.may_go_on.set()

    async def sells(self) -> None:
        self.ctx.storage.sql.exec("UPDATE stock SET left = left - 1 WHERE id = 1")

    async def sells_a_pear(self) -> None:
        self.ctx.storage.sql.exec("UPDATE stock SET left = left - 1 WHERE id = 2")

    async def sets_prices(self) -> None:
        self.ctx.storage.sql.exec("UPDATE stock SET price = price + 1")

    async def looks(self) -> None:
        self.left()

    async def sells_and_thinks_better_of_it(self) -> None:
        def sell() -> None:
            self.ctx.storage.sql.exec("UPDATE stock SET left = left - 1 WHERE id = 1")
            raise LookupError

        with pytest.raises(LookupError):
            self.ctx.storage.transaction_sync(sell)

    # What is wrong once another event has sold

    async def set_after_a_wait(self) -> None:
        left = self.left()
        await self.others()
        self.set_left(left - 1)

    async def set_all_after_a_wait(self) -> None:
        rows = self.ctx.storage.sql.exec("SELECT * FROM stock").to_list()
        await self.others()
        self.ctx.storage.sql.exec("UPDATE stock SET left = ?", rows[0]["left"] - 1)

    async def set_by_a_view(self) -> None:
        left = self.ctx.storage.sql.exec("SELECT * FROM apples").one()["left"]
        await self.others()
        self.set_left(left - 1)

    async def upsert_after_a_wait(self) -> None:
        left = self.left()
        await self.others()
        self.ctx.storage.sql.exec(
            "INSERT INTO stock (item, left) VALUES ('apple', ?) "
            "ON CONFLICT (item) DO UPDATE SET left = excluded.left",
            left - 1,
        )

    # What is right, whatever another event does

    async def decrease_after_a_wait(self) -> None:
        if self.left():
            await self.others()
            self.ctx.storage.sql.exec("UPDATE stock SET left = left - 1 WHERE id = 1")

    async def compare_and_set(self) -> None:
        left = self.left()
        await self.others()
        query = "UPDATE stock SET left = ? WHERE id = 1 AND left = ?"
        self.ctx.storage.sql.exec(query, left - 1, left)

    async def read_again(self) -> None:
        self.left()
        await self.others()
        self.set_left(self.left() - 1)

    async def set_what_was_not_read(self) -> None:
        self.left()
        await self.others()
        self.ctx.storage.sql.exec("UPDATE stock SET price = ? WHERE id = 1", 5)

    async def log(self) -> None:
        self.left()
        await self.others()
        self.ctx.storage.sql.exec("INSERT INTO sale VALUES ('apple')")

    async def wait_alone(self) -> None:
        left = self.left()
        await anyio.sleep(0.001)
        self.set_left(left - 1)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[durable.Stub[Shop]]:
    async with durable.open(tmp_path / "store", debug=True) as runtime:
        yield runtime.namespace(Shop).get_by_name("corner")


async def both(shop: durable.Stub[Shop], method: str, other: str) -> None:
    """Run *method*, and *other* while it waits."""
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            await getattr(shop, method)()

        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        await shop.other(other)


@pytest.mark.parametrize(
    "method",
    ["set_after_a_wait", "set_all_after_a_wait", "set_by_a_view", "upsert_after_a_wait"],
)
async def test_a_lost_update_of_a_row_is_reported(shop: durable.Stub[Shop], method: str) -> None:
    """With the object, the column, and the lines of the read and of both writes."""
    text = (
        r"Shop\('corner'\) read 'stock\.left' at .*test_row_updates\.py:\d+, then waited .* "
        r"another event has set it meanwhile, at .*test_row_updates\.py:\d+"
    )
    with pytest.warns(RuntimeWarning, match=text) as warned:
        await both(shop, method, "sells")

    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("method", "other"),
    [
        ("set_after_a_wait", "sells_a_pear"),
        ("set_after_a_wait", "sets_prices"),
        ("set_after_a_wait", "looks"),
        ("set_after_a_wait", "sells_and_thinks_better_of_it"),
        ("decrease_after_a_wait", "sells"),
        ("compare_and_set", "sells"),
        ("read_again", "sells"),
        ("set_what_was_not_read", "sells"),
        ("log", "sells"),
        ("wait_alone", "looks"),
    ],
)
async def test_what_loses_nothing_is_not_reported(
    shop: durable.Stub[Shop], method: str, other: str
) -> None:
    """Other rows and columns, what looks at what there is now, and what was undone."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await both(shop, method, other)


async def test_open_cursors_go_on_beside_new_statements(shop: durable.Stub[Shop]) -> None:
    """Debug mode looks at a statement as it is prepared, and at no other one."""

    def work(desk: Shop, _: Any) -> list[Any]:
        cursor = desk.ctx.storage.sql.exec("SELECT id FROM stock ORDER BY id")
        first = next(cursor)
        desk.ctx.storage.sql.exec("UPDATE stock SET price = 7 WHERE id = 1")
        desk.ctx.storage.sql.exec("SELECT max(price) AS most FROM stock").one()
        return [first, *cursor]

    assert await durable.testing.run_in_object(shop, work) == [{"id": 1}, {"id": 2}]
