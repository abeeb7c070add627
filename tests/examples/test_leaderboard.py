"""The leaderboard of the documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest

import durable
from durable import Request
from durable.testing import VirtualClock

from .conftest import load

example = load("leaderboard")

WEEK_S = 7 * 86_400


@pytest.fixture
def options() -> dict[str, Any]:
    return {"bindings": {"BOARDS": example.Board}}


async def ask(runtime: durable.Runtime, method: str, path: str, points: Any = None) -> Any:
    body = None if points is None else json.dumps(points)
    request = Request(f"https://games{path}", method=method, body=body)
    response: durable.Response = await example.fetch(request, runtime.env)
    text = await response.text()
    return json.loads(text) if response.status == 200 else response.status


async def test_a_players_best_counts(runtime: durable.Runtime) -> None:
    """Ranks begin at 1, and equals share one."""
    ranks = [
        await ask(runtime, "PUT", f"/games/g/{player}", points)
        for player, points in [("ann", 10), ("bob", 20), ("ann", 30), ("ann", 5), ("eve", 20)]
    ]

    assert [each["rank"] for each in ranks] == [1, 1, 1, 1, 2]
    assert await ask(runtime, "GET", "/games/g") == [
        {"player": "ann", "points": 30},
        {"player": "bob", "points": 20},
        {"player": "eve", "points": 20},
    ]
    board = runtime.env.BOARDS.get_by_name("g")
    assert [await board.rank(player) for player in ("bob", "eve", "zoe")] == [2, 2, None]


async def test_a_new_season_begins_every_week(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """The winners of those that are over stay, the last season first."""
    for season in (1, 2):
        for place in range(4):
            await ask(runtime, "PUT", f"/games/g/p{place}", season * 10 + place)
        await clock.advance(WEEK_S)

    assert await ask(runtime, "GET", "/games/g") == []
    won = await ask(runtime, "GET", "/games/g/winners")
    assert [[each["points"] for each in season] for season in won] == [[23, 22, 21], [13, 12, 11]]


@pytest.mark.parametrize("points", [-1, 1.5, "12", True, 2**63])
async def test_points_are_whole_numbers(runtime: durable.Runtime, points: Any) -> None:
    """Anything else is refused, and nobody is on the board."""
    assert await ask(runtime, "PUT", "/games/g/ann", points) == 400
    assert await ask(runtime, "GET", "/games/g") == []
