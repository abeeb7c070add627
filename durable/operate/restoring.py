"""Going back: done by the program that has the store, or by this one if none has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from durable._engine.codec import MsgpackCodec
from durable._runtime.orders import Order

from .changing import order_of, result_of, send_order, text_of
from .histories import with_history
from .looking import look
from .unowned import Unowned, Where

_CODEC = MsgpackCodec()


def restore(store: Where, cls: str, name_or_id: str, to: str | datetime) -> str:
    """Restore an object to a bookmark, or to a time; returns a bookmark that undoes it.

    In a program that has the store, the object is reset and built anew, and its calls get that
    reason. A time means a bookmark of up to a minute earlier; a naive one is local time. Raises
    UnknownBookmark, NoHistory, Refused with the program's answer, else what `put` raises.
    """
    _check(store, cls, name_or_id)
    reply = send_order(store, restore_order(cls, name_or_id, to))
    if reply is not None:
        return str(result_of(reply))
    with Unowned(store, cls, name_or_id) as unowned:
        return unowned.restore(to)


def fork(store: Where, cls: str, name_or_id: str, to: str | datetime, name: str) -> None:
    """Make a new object of this name and class that is what another one was at a bookmark, or at a
    time; it shares nothing with that. Raises DurableError if it exists already, else as
    `restore`."""
    _check(store, cls, name_or_id)
    reply = send_order(store, fork_order(cls, name_or_id, to, name))
    if reply is not None:
        sent = result_of(reply)
        if sent is not None:  # another process has the object that is to begin
            answer = send_order(store, _begin_order(cls, name_or_id, name, sent))
            result_of(answer or {"error": f"no process takes orders for {name!r}; do it again"})
        return
    with Unowned(store, cls, name_or_id) as unowned:
        unowned.fork(to, name)


def restore_order(cls: str, name_or_id: str, to: str | datetime) -> Order:
    """The order of such a `restore`, for `obey`."""
    return order_of("restore", cls, name_or_id, to=text_of(_CODEC.encode(to)))


def fork_order(cls: str, name_or_id: str, to: str | datetime, name: str) -> Order:
    """The order of such a `fork`, for `obey`."""
    return order_of("fork", cls, name_or_id, to=text_of(_CODEC.encode(to)), name=name)


def _begin_order(cls: str, name_or_id: str, name: str, sent: Any) -> Order:
    """The order to begin *name* as what the process of the other object has sent."""
    return order_of("begin", cls, name_or_id, name=name, **{"as": text_of(_CODEC.encode(sent))})


def _check(store: Where, cls: str, name_or_id: str) -> None:
    with look(store) as looked:
        with_history(looked, cls, name_or_id)
