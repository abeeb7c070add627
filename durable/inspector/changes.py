"""The changes that the page may make, where the inspector was opened with *write*: each is an order
to the program that has the store, which carries it out as an event of the object.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from attrs import frozen

from durable import operate
from durable._model.log import log
from durable._runtime.orders import Order
from durable.operate.changing import delete_order, put_order
from durable.operate.in_memory import abort_order, alarm_order, evict_order
from durable.operate.restoring import restore_order

from .requests import Parameters, Refused


@frozen
class Change:
    """One change of one object."""

    do: str
    cls: str
    name_or_id: str
    key: str | None = None
    value: Any = None
    timer: str | None = None
    to: str | None = None  # a bookmark

    @property
    def order(self) -> Order:
        """The order to the program that has the store. Raises DurableError for a value that cannot
        be stored."""
        match self.do:
            case "put":
                assert self.key is not None
                return put_order(self.cls, self.name_or_id, self.key, self.value)
            case "delete":
                return delete_order(self.cls, self.name_or_id, self.key)
            case "alarm":
                return alarm_order(self.cls, self.name_or_id, self.timer)
            case "restore":
                assert self.to is not None
                return restore_order(self.cls, self.name_or_id, self.to)
            case "evict":
                return evict_order(self.cls, self.name_or_id)
        return abort_order(self.cls, self.name_or_id)

    def note(self) -> None:
        """Write a line to the log of the inspector; the store's program writes its own."""
        what = [self.do, *(repr(part) for part in (self.key, self.timer) if part is not None)]
        log.note("inspector: %s of %r %r", " ".join(what), self.cls, self.name_or_id)

    def carry_out(self, folder: str) -> Any:
        """Make the change in the store in *folder*, which no program has open: this process changes
        what is stored. Raises NotRunning for a change that needs the object's code. For a thread.
        """
        match self.do:
            case "put":
                assert self.key is not None
                return operate.put(folder, self.cls, self.name_or_id, self.key, self.value)
            case "delete":
                return operate.delete(folder, self.cls, self.name_or_id, self.key)
            case "alarm":
                return operate.run_alarm(folder, self.cls, self.name_or_id, self.timer)
            case "restore":
                assert self.to is not None
                return operate.restore(folder, self.cls, self.name_or_id, self.to)
            case "evict":
                return operate.evict(folder, self.cls, self.name_or_id)
        return operate.abort(folder, self.cls, self.name_or_id)


def change_of(given: Parameters) -> Change:
    """The change that a page has requested. Raises Refused."""
    do = given.need("do")
    if do not in {"put", "delete", "alarm", "evict", "abort", "restore"}:
        raise Refused(404, f"there is no change {do!r}")
    change = Change(do, given.need("class"), given.need("id"))
    if do == "put":
        return attrs.evolve(change, key=given.need("key"), value=_value(given.need("value")))
    if do == "delete":
        return attrs.evolve(change, key=given.get("key"))
    if do == "restore":
        return attrs.evolve(change, to=given.need("to"))
    return attrs.evolve(change, timer=given.get("timer")) if do == "alarm" else change


def result_of(change: Change, result: Any) -> dict[str, Any]:
    """The outcome, for the page."""
    if change.do == "delete":
        return {"was_there": change.key is None or bool(result)}
    if change.do == "alarm":
        found = attrs.asdict(result) if isinstance(result, operate.Rung) else dict(result)
        return {"ran": found["ran"], "error": found["error"]}
    if change.do == "restore":
        return {"undo": str(result)}
    return {}


def _value(text: str) -> Any:
    """*text* parsed as JSON. It is sent as text since numbers then keep the type and size that were
    typed, which a browser's own do not."""
    try:
        return operate.from_json(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Refused(400, f'the value is not JSON: {why}; a text has quotes: "text"') from None


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")
