"""The processes that share a store, as a program sees them."""

from __future__ import annotations

from attrs import frozen


@frozen
class PeerProcess:
    """A process that has a store open."""

    id: str  # unlike that of any other process of the store, ever
    pid: int
    address: str | None  # where it listens; None if it is alone
    version: str  # of durable
    state: str  # "starting", "ready" or "leaving"
    shards: int  # how many it owns
    live_objects: int | None  # in its memory; None: it did not answer in time
    is_here: bool  # whether it is this process
