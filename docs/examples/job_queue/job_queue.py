"""A job queue: jobs are added over HTTP, taken by workers, and done once or tried again.

A queue is an object. Who takes a job has it for a while, its lease; a job that is not done by then
is given to another worker, and one that was tried too often is put aside.

    uvicorn job_queue:app
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import durable
import durable.asgi
from durable import Request, Response

LEASE = timedelta(seconds=30)
TRIES_MAX = 5


class Queue(durable.DurableObject):
    """Jobs, in the order in which they may be taken."""

    async def add(self, work: Any, delay_s: float = 0.0) -> str:
        """Add a job, to be taken after *delay_s*. Returns its id."""
        number = await self.ctx.storage.get("added", 0) + 1
        job_id = f"{number:012}"
        self.ctx.storage.put("added", number)
        self.put(job_id, {"work": work, "tries": 0}, self.now_us() + int(delay_s * 1_000_000))
        return job_id

    async def take(self) -> dict[str, Any] | None:
        """The next job, which nobody else gets for as long as the lease; None if there is none."""
        now_us = self.now_us()
        due = await self.ctx.storage.list(start="due ", end=due_key(now_us + 1, ""), limit=100)
        for key, job_id in due.items():
            self.ctx.storage.delete(key)
            job = await self.ctx.storage.get(f"job {job_id}")
            job["tries"] += 1
            if job["tries"] > TRIES_MAX:
                self.ctx.storage.delete(f"job {job_id}")
                self.ctx.storage.put(f"failed {job_id}", job["work"])
                continue
            self.put(job_id, job, now_us + LEASE // timedelta(microseconds=1))
            return {"id": job_id, "work": job["work"], "tries": job["tries"]}
        return None

    async def done(self, job_id: str) -> bool:
        """The job was done. False if it was done before, or put aside."""
        job = await self.ctx.storage.get(f"job {job_id}")
        if job is None:
            return False
        self.ctx.storage.delete([f"job {job_id}", job["due"]])
        return True

    async def failed(self) -> dict[str, Any]:
        """The jobs that were put aside, by id."""
        found = await self.ctx.storage.list(prefix="failed ")
        return {key.removeprefix("failed "): work for key, work in found.items()}

    def put(self, job_id: str, job: dict[str, Any], due_us: int) -> None:
        # These keys sort by time, so the jobs that may be taken stand first.
        due = due_key(due_us, job_id)
        self.ctx.storage.put({due: job_id, f"job {job_id}": {**job, "due": due}})

    def now_us(self) -> int:
        return int(self.ctx.now().timestamp() * 1_000_000)


def due_key(due_us: int, job_id: str) -> str:
    return f"due {due_us:017} {job_id}"


async def fetch(request: Request, env: Any) -> Response:
    match request.method, request.url.path.split("/")[1:]:
        case "POST", ["queues", name]:
            queue = env.QUEUES.get_by_name(name)
            work, once = await request.json(), request.headers.get("idempotency-key")
            # A client that lost the answer sends the same key again, and adds no second job.
            return Response.from_json({"id": await queue.call(Queue.add, work, once=once)})
        case "POST", ["queues", name, "take"]:
            job = await env.QUEUES.get_by_name(name).take()
            return Response(status=204) if job is None else Response.from_json(job)
        case "DELETE", ["queues", name, "jobs", job_id]:
            was_there = await env.QUEUES.get_by_name(name).done(job_id)
            return Response(status=204 if was_there else 404)
        case "GET", ["queues", name, "failed"]:
            return Response.from_json(await env.QUEUES.get_by_name(name).failed())
        case _:
            return Response("not found", status=404)


app = durable.asgi.app(fetch, os.environ.get("STORE", "queues"), bindings={"QUEUES": Queue})
