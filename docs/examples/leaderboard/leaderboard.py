"""A leaderboard: the best score of each player, ranks, and a new season every week.

A game's board is an object with an SQL database of its own.

    uvicorn leaderboard:app
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import durable
import durable.asgi
from durable import Request, Response

SEASON = timedelta(days=7)
WINNERS = 3


class Board(durable.DurableObject):
    """The scores of one game."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.storage.sql.exec(
            """
            CREATE TABLE IF NOT EXISTS score (player TEXT PRIMARY KEY, points INTEGER NOT NULL);
            CREATE INDEX IF NOT EXISTS score_by_points ON score (points DESC, player);
            """
        )
        ctx.timers.every("season", SEASON)

    async def submit(self, player: str, points: int) -> int:
        """Note a result, of which a player's best counts. Returns the player's rank."""
        self.ctx.storage.sql.exec(
            """
            INSERT INTO score VALUES (?, ?)
            ON CONFLICT (player) DO UPDATE SET points = max(points, excluded.points)
            """,
            player,
            points,
        )
        rank = await self.rank(player)
        assert rank is not None
        return rank

    async def rank(self, player: str) -> int | None:
        """From 1 on; equals share one. None for who has not played."""
        (found,) = self.ctx.storage.sql.exec(
            """
            SELECT 1 + count(*) AS rank, (SELECT points FROM score WHERE player = ?1) AS points
            FROM score WHERE points > (SELECT points FROM score WHERE player = ?1)
            """,
            player,
        )
        return None if found["points"] is None else int(found["rank"])

    async def top(self, count: int) -> list[dict[str, Any]]:
        """The best players and their points."""
        query = "SELECT player, points FROM score ORDER BY points DESC, player LIMIT ?"
        return self.ctx.storage.sql.exec(query, count).to_list()

    async def winners(self) -> list[Any]:
        """Those of the seasons that are over, the last one first."""
        return list((await self.ctx.storage.list(prefix="season ", reverse=True)).values())

    async def timer(self, name: str, payload: Any, info: durable.AlarmInfo) -> None:
        # Stored together or not at all: no season is counted twice, and none is lost.
        self.ctx.storage.put(f"season {info.scheduled_time:%Y-%m-%d}", await self.top(WINNERS))
        self.ctx.storage.sql.exec("DELETE FROM score")


async def fetch(request: Request, env: Any) -> Response:
    match request.method, request.url.path.split("/")[1:]:
        case "PUT", ["games", game, player]:
            points = await request.json()
            if type(points) is not int or not 0 <= points < 2**63:
                return Response("points are a whole number", status=400)
            board = env.BOARDS.get_by_name(game)
            return Response.from_json({"rank": await board.submit(player, points)})
        case "GET", ["games", game]:
            return Response.from_json(await env.BOARDS.get_by_name(game).top(10))
        case "GET", ["games", game, "winners"]:
            return Response.from_json(await env.BOARDS.get_by_name(game).winners())
        case _:
            return Response("not found", status=404)


app = durable.asgi.app(fetch, os.environ.get("STORE", "boards"), bindings={"BOARDS": Board})
