"""Going back by order: an object to a bookmark, or a new object made of what another one was."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from durable._border.channel import LocalChannel
from durable._border.durable_object import DurableObject
from durable._engine.batch import Alarm
from durable._engine.going_back import Whole
from durable._gates.futures import ReadyAnswer
from durable._model.errors import DurableError, ObjectAborted
from durable._model.ids import ObjectId
from durable._object.activation import Activation
from durable._object.live import Phase

from .class_table import ClassEntry
from .events import event, here

# Bytes of an object that another process is to have a fork of: an order is one message.
SENT_SIZE_MAX: Final = 512 << 20
WENT_BACK = "the object goes back to {to}, as an operator wished"


async def restore(entry: ClassEntry[DurableObject], object_id: ObjectId, to: str | datetime) -> str:
    """Reset the object, which goes back as it is built anew. Returns a bookmark that undoes it.

    Raises UnknownBookmark, and DurableError where the class keeps no history.
    """
    undo = await event(entry, object_id, "restore", lambda of: of.bookmarks.wish_at(to, "restore"))
    here(entry, object_id).break_(ObjectAborted(WENT_BACK.format(to=to)))
    # It goes back when it is built; build it now, so that the outcome is known.
    await event(entry, object_id, "restored", lambda of: ReadyAnswer(None))
    return undo


async def fork(
    entry: ClassEntry[DurableObject], object_id: ObjectId, to: str | datetime, fork_id: ObjectId
) -> Any:
    """Make *fork_id* what the object was. Raises DurableError if there is such an object already,
    else as `restore`.

    Where another process has *fork_id* nothing is made: what is returned is for its `begin`.
    """
    await event(entry, object_id, "fork", lambda of: of.storage.sync())
    whole = await event(
        entry, object_id, "fork", lambda of: ReadyAnswer(of.bookmarks.whole(to, "fork"))
    )
    if isinstance(entry.channel_of(fork_id), LocalChannel):
        await _begin(entry, fork_id, whole)
        return None
    if whole.size > SENT_SIZE_MAX:
        raise DurableError(
            f"the object took {whole.size:,} bytes, and {SENT_SIZE_MAX:,} is the most that is sent "
            f"to the process that has {fork_id.name!r}; fork it while no program has the store"
        )
    return [whole.puts, whole.sides, whole.alarm and tuple(whole.alarm)]


async def begin(entry: ClassEntry[DurableObject], fork_id: ObjectId, sent: Any) -> None:
    """Make *fork_id* what a `fork` in another process has returned."""
    puts, sides, alarm = sent
    await _begin(entry, fork_id, Whole(puts, sides, Alarm(*alarm) if alarm else None))


async def _begin(entry: ClassEntry[DurableObject], fork_id: ObjectId, whole: Whole) -> None:
    activation = here(entry, fork_id)
    # Nothing suspends from here to the seal, so no other call begins it.
    if activation.phase is not Phase.NEW or _is_there(activation):
        raise DurableError(f"there is an object {fork_id.name!r} already; give another name")
    _write(activation, whole)
    await event(entry, fork_id, "forked", lambda of: ReadyAnswer(None))


def _is_there(activation: Activation) -> bool:
    handle = activation.handle
    return handle.keyspace != 0 or activation.begins_later is not None


def _write(activation: Activation, whole: Whole) -> None:
    buffer = activation.storage.buffer
    for key, value in whole.puts.items():
        buffer.write(key, value, confirmed=True, no_cache=True)
    for side, stored in whole.sides.items():
        buffer.write_side(side, stored)
    if whole.alarm is not None:
        buffer.write_alarm(whole.alarm, confirmed=True)
    activation.finish_turns()
