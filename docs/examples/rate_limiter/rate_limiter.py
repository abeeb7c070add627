"""A rate limiter: so many requests for each key, and no more, whichever process is asked.

A key's bucket is an object. It holds tokens, which come back with time; a request takes one.

    uvicorn rate_limiter:app
"""

from __future__ import annotations

import math
import os
from datetime import timedelta
from typing import Any

import durable
import durable.asgi
from durable import Request, Response

BURST = 10.0  # requests at once
PER_S = 2.0  # and in the long run, each second


class Bucket(durable.DurableObject):
    """The tokens of one key."""

    async def take(self) -> float:
        """Take a token. Returns 0, or how many seconds to wait for one."""
        now_s = self.ctx.now().timestamp()
        # When the bucket is full again: one number says how many tokens are in it, at any time.
        full_s: float = max(now_s, await self.ctx.storage.get("full_s", 0.0)) + 1 / PER_S
        wait_s = full_s - now_s - BURST / PER_S
        if wait_s > 1e-9:
            return wait_s
        # Not waited for: after a crash a few tokens too many are no harm, and the answer is quick.
        self.ctx.storage.put("full_s", full_s, allow_unconfirmed=True)
        # A bucket that is full is like one that was never used: then it is forgotten.
        self.ctx.storage.set_alarm(timedelta(seconds=full_s - now_s), allow_unconfirmed=True)
        return 0.0

    async def alarm(self) -> None:
        if await self.ctx.storage.get("full_s", 0.0) <= self.ctx.now().timestamp():
            self.ctx.storage.delete_all()


async def fetch(request: Request, env: Any) -> Response:
    key = request.headers.get("x-api-key")
    if key is None:
        return Response("no x-api-key\n", status=401)
    wait_s = await env.BUCKETS.get_by_name(key).take()
    if wait_s > 0:
        return Response("too fast\n", status=429, headers={"retry-after": str(math.ceil(wait_s))})
    return Response("here you are\n")


app = durable.asgi.app(fetch, os.environ.get("STORE", "buckets"), bindings={"BUCKETS": Bucket})
