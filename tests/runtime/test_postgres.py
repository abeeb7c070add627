"""A store in PostgreSQL, opened by its URL, as the one process that has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest

import durable
from durable import testing
from tests import postgres


class Notes(durable.DurableObject):
    """Keeps what it is given."""

    rung: ClassVar[list[str]] = []

    async def write(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def read(self, key: str) -> Any:
        return await self.ctx.storage.get(key)

    async def everything(self) -> list[tuple[str, Any]]:
        return list((await self.ctx.storage.list()).items())

    async def forget(self) -> None:
        await self.ctx.storage.delete_all()

    async def wake_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self) -> None:
        self.rung.append(str(self.ctx.id.name))

    async def note(self, text: str) -> list[str]:
        sql = self.ctx.storage.sql
        sql.exec("create table if not exists notes (text)")
        sql.exec("insert into notes values (?)", text)
        return [row["text"] for row in sql.exec("select text from notes order by rowid")]


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


def open_store(url: str, **options: Any) -> durable.testing.open:
    return durable.testing.open(url, bindings={"NOTES": Notes}, **options)


@pytest.mark.parametrize("reads", ["inline", "thread"])
async def test_the_same_program_runs_on_a_url(url: str, reads: str) -> None:
    """Storage, alarms, eviction, deletion; and all of it is there when it is opened again."""
    clock = testing.VirtualClock()
    Notes.rung.clear()
    async with open_store(url, clock=clock, reads=reads) as runtime:
        notes = runtime.env.NOTES.get_by_name("a")
        await notes.write("b", 2)
        await notes.write("a", {"deep": [1, None]})
        await notes.wake_in(5)
        await testing.evict_all(runtime)
        assert await notes.everything() == [("a", {"deep": [1, None]}), ("b", 2)]
        await clock.advance(5)
        assert Notes.rung == ["a"]
        gone = runtime.env.NOTES.get_by_name("gone")
        await gone.write("a", 1)
        await gone.forget()

    async with open_store(url, clock=clock, reads=reads) as runtime:
        assert await runtime.env.NOTES.get_by_name("a").read("b") == 2
        assert await runtime.env.NOTES.get_by_name("gone").everything() == []


async def test_sql_in_an_object_is_kept(url: str) -> None:
    """Its pages are side records, read one by one when they are asked for."""
    async with open_store(url) as runtime:
        notes = runtime.env.NOTES.get_by_name("a")
        assert await notes.note("one") == ["one"]
        await testing.evict_all(runtime)
        assert await notes.note("two") == ["one", "two"]


async def test_an_alarm_that_was_due_meanwhile_rings_at_the_opening(url: str) -> None:
    """The schedule is in the database."""
    clock = testing.VirtualClock()
    Notes.rung.clear()
    async with open_store(url, clock=clock) as runtime:
        await runtime.env.NOTES.get_by_name("late").wake_in(60)
    await clock.advance(120)
    assert Notes.rung == []
    async with open_store(url, clock=clock):
        await clock.settle()
        assert Notes.rung == ["late"]


async def test_who_opens_it_later_has_it(url: str) -> None:
    """The process before stores nothing any more, and says so."""
    async with open_store(url) as first:
        old = first.env.NOTES.get_by_name("a")
        await old.write("n", 1)
        async with open_store(url) as second:
            await second.env.NOTES.get_by_name("a").write("n", 2)
            with pytest.raises(durable.ObjectSuperseded):
                await old.write("n", 3)
            assert await second.env.NOTES.get_by_name("a").read("n") == 2


async def test_a_store_that_processes_share_is_not_had_alone(url: str) -> None:
    """Nor written to by a command, which would take their objects away."""
    postgres.server().execute(
        "insert into durable.processes (name, pid, address, version, state, is_alone, expires) "
        "values ('other', 7, 'far:1', '1', 'ready', false, clock_timestamp() + interval '1 min')",
        url.rsplit("/", 1)[1],
    )
    with pytest.raises(durable.StoreInUse):
        async with open_store(url):
            pass


async def test_what_cannot_be_opened_says_why(url: str) -> None:
    """The database is away, has no store, or is asked for what only a folder has."""
    empty = postgres.server().url(postgres.server().new_database())
    with pytest.raises(FileNotFoundError, match="durable init"):
        async with open_store(empty):
            pass
    postgres.server().drop(empty)
    with pytest.raises(durable.StoreUnavailable):
        async with open_store("postgresql://127.0.0.1:1/none"):
            pass
    with pytest.raises(ValueError, match="give peers"):
        open_store(url, shared=True)
    with pytest.raises(ValueError, match="a database has none"):
        open_store(url, operate=True)


@pytest.mark.sessions
async def test_a_lost_connection_resets_what_was_being_stored(url: str) -> None:
    """Whether it was stored is not known; the object begins anew with what is there."""
    async with open_store(url) as runtime:
        notes = runtime.env.NOTES.get_by_name("a")
        await notes.write("n", 1)
        postgres.server().execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            f"where datname = '{url.rsplit('/', 1)[1]}'"
        )
        with pytest.raises(durable.StoreUnavailable) as failed:
            await notes.write("n", 2)
        assert failed.value.retryable
        assert failed.value.reset

        again = runtime.env.NOTES.get_by_name("a")
        assert await again.read("n") in {1, 2}
        await again.write("n", 3)
        assert await again.read("n") == 3


async def test_a_scratch_store_reads_the_database_and_writes_nothing(url: str) -> None:
    """Beside the process that has it."""
    async with open_store(url) as runtime:
        await runtime.env.NOTES.get_by_name("a").write("n", 1)
        async with open_store(url, scratch=True) as tried:
            notes = tried.env.NOTES.get_by_name("a")
            assert await notes.read("n") == 1
            await notes.write("n", 2)
            assert await notes.read("n") == 2
        assert await runtime.env.NOTES.get_by_name("a").read("n") == 1
