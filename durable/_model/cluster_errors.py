"""Errors of stores in a database, and of processes that lose what they owned."""

from __future__ import annotations

from .errors import DurableError, ObjectReset


class StoreUnavailable(DurableError):
    """The database that keeps the store does not answer. Nothing is known to be wrong with its
    contents; what was confirmed is there when it answers again."""

    retryable = True


class ObjectSuperseded(ObjectReset):
    """The object belongs to another process by now: this one lost it, after a pause or a lost
    network, and can neither store nor send anything for it any more."""

    retryable = True
