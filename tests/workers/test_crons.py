"""Cron triggers call `scheduled`, at the times that Cloudflare's expressions say."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

import durable
from durable.testing import VirtualClock
from durable.workers import open_worker
from durable.workers.crons import Schedule

from .conftest import Run

pytestmark = pytest.mark.backends("asyncio")

pytest.importorskip("cronsim")

CODE = """
from workers import Response, WorkerEntrypoint

SEEN = []

class Default(WorkerEntrypoint):
    async def scheduled(self, controller{more}):
        SEEN.append([controller.cron, controller.scheduledTime{told}])
        if len(SEEN) == 2:
            raise ValueError("not this time")

    async def fetch(self):
        return Response.json(SEEN)
"""
CONFIG = 'name = "it"\nmain = "worker.py"\ntriggers.crons = {crons}\n'
START_MS = 1_800_000_000_000  # of the virtual clock: a Friday, 08:00


async def test_crons_are_kept(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Each at its time, with what it was due for; one that fails is logged, and goes on."""
    clock = VirtualClock()
    code = CODE.format(more=", env, ctx", told=", env is self.env, ctx is not None")
    config = CONFIG.format(crons='["*/10 * * * *", "0 9 * * *"]')
    async with run(code, config, clock=clock) as opened:
        await clock.advance(3 * 600 + 5)
        assert json.loads(await opened.text()) == [
            ["*/10 * * * *", START_MS + n * 600_000, True, True] for n in (1, 2, 3)
        ]
        await clock.advance(3 * 600)
        crons = [cron for cron, *_ in json.loads(await opened.text())]
        assert sorted(crons[-2:]) == ["*/10 * * * *", "0 9 * * *"]
    assert "not this time" in caplog.text


async def test_a_cron_is_pulled_by_hand(run: Run) -> None:
    """At the address that Wrangler has for it, whether or not it is configured."""
    code = CODE.format(more="", told="")
    async with run(code, CONFIG.format(crons="[]")) as opened:
        path = "/cdn-cgi/handler/scheduled?cron=*+*+*+*+*&time=1745856238000"
        assert await opened.text(path) == "ok"
        assert json.loads(await opened.text()) == [["* * * * *", 1_745_856_238_000]]


async def test_a_handler_of_the_old_style(run: Run) -> None:
    code = """
    from js import Response
    SEEN = []
    async def on_scheduled(controller, env, ctx):
        SEEN.append(controller.cron)
    async def on_fetch():
        return Response.json(SEEN)
    """
    async with run(code, CONFIG.format(crons="[]")) as opened:
        await opened.get("/cdn-cgi/handler/scheduled?cron=x")
        assert json.loads(await opened.text()) == ["x"]


async def test_crons_without_a_handler_are_an_error_when_they_are_due(run: Run) -> None:
    async with run("", CONFIG.format(crons="[]")) as opened:
        with pytest.raises(TypeError, match=r"the Worker it has crons, but no scheduled\(\)"):
            await opened.get("/cdn-cgi/handler/scheduled")


SCHEDULES = {
    "* * * * *": "2030-01-01 00:01",
    "*/7 * * * *": "2030-01-01 00:07",
    "0 15 1 * *": "2030-01-01 15:00",
    "59 23 LW * *": "2030-01-31 23:59",
    "0 0 * * 1": "2030-01-06 00:00",  # a Sunday
    "0 0 * * 2-6": "2030-01-02 00:00",
    "0 0 * * sat": "2030-01-05 00:00",
    "0 0 * * 7": "2030-01-05 00:00",
    "0 0 * * MON#2": "2030-01-14 00:00",
    "0 0 * * 2#2": "2030-01-14 00:00",
    "0 18 * * 6L": "2030-01-25 18:00",
}


@pytest.mark.parametrize("cron", SCHEDULES)
def test_expressions_are_cloudflares(cron: str) -> None:
    """In UTC; the days of the week are counted from 1, which is Sunday."""
    found = Schedule(cron).after(datetime(2030, 1, 1, tzinfo=UTC))
    assert f"{found:%Y-%m-%d %H:%M}" == SCHEDULES[cron]


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "* * * * * *", "nonsense"])
def test_what_is_no_expression_is_told_at_the_call(run: Run, tmp_path, cron: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "worker.py").write_text("")
    file = tmp_path / "wrangler.toml"
    file.write_text(CONFIG.format(crons=json.dumps([cron])))
    with pytest.raises(durable.InvalidConfig, match="cron"):
        open_worker(file)
