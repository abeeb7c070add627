"""The operations that can be requested of an object, how often, and in how many ways."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from .history import History
from .listening import TAGS
from .model import Operation
from .storing import KEYS, READ_STYLES, TURN_STYLES, WRITE_STYLES

NAMES = ("ann", "bob", "cid")

# kind of operation: how often, and the kinds of its steps
KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "touch": (8, ("touch",)),
    "set": (6, ("set",)),
    "drop": (3, ("drop",)),
    "read": (8, ("read",)),
    "wipe": (1, ("wipe",)),
    "remind": (4, ("remind",)),
    "forget": (1, ("forget",)),
    "refuse": (2, ("touch",)),
    "confirm": (2, ("touch",)),
    "sync": (1, ("touch",)),
    "twice": (3, ("touch", "touch")),
    "relay": (3, ("touch", "touch")),
    "alone": (2, ("touch",)),
    "drip": (2, ("touch", "touch")),
    "undone": (2, ("touch",)),
    "hang_up": (1, ("touch",)),
    "stop": (1, ()),
}
# Operations that a message on a socket cannot request: it has one answer, and no errors.
NOT_BY_SOCKET = frozenset({"refuse", "drip"})


@frozen
class Order:
    """One call, and the operations that it asks for."""

    kind: str
    how: dict[str, Any]
    operations: list[Operation]

    def message(self, stub: int, number: int) -> dict[str, Any]:
        """What is sent: call *number* of a stub, or of a socket."""
        change = self.operations[0].change if self.operations else 0
        how = self.how
        return {"stub": stub, "number": number, "kind": self.kind, "change": change, "how": how}


def draw(
    history: History, name: str, unconfirmed: float, without: frozenset[str] = frozenset()
) -> Order:
    """Ask object *name* for something, but for the kinds in *without*.

    *unconfirmed*: how many of the changes are made with `allow_unconfirmed`.
    """
    chance = history.chance
    kinds = {kind: weight for kind, (weight, _) in KINDS.items() if kind not in without}
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    how = {
        "before": chance.choice([0, 0, 0, 1, 2, 3]),
        "between": chance.choice([0, 1, 2, 3]),
        "after": chance.choice([0, 0, 0, 1, 2]),
        "read": chance.randrange(READ_STYLES),
        "write": chance.randrange(WRITE_STYLES),
        "key": chance.choice(KEYS),
        "value": chance.randrange(1_000),
        "delay": chance.choice([0.01, 3.0, 40.0]),
        "other": chance.choice(NAMES),
        # The sockets that it is announced on: of a tag, all, or none.
        "announces": chance.choice([*TAGS, "", None, None, None]) if KINDS[kind][1] else None,
        "greets": chance.random() < 0.5,
        "keeps": chance.random() < 0.7,
    }
    return Order(kind, how, ask(history, kind, name, how, unconfirmed))


def ask(
    history: History, kind: str, name: str, how: dict[str, Any], unconfirmed: float = 0.0
) -> list[Operation]:
    """The operations of one call, as asked for now."""
    operations: list[Operation] = []
    for step in KINDS[kind][1]:
        where = how["other"] if operations and kind == "relay" else name
        operation = Operation(where, step, 0, 0, how["key"], how["value"])
        is_later = operations and kind in {"twice", "drip"}
        operation.after = operations[-1] if is_later else None
        operation.unconfirmed = step != "read" and history.chance.random() < unconfirmed
        operation.syncs = kind == "sync"
        operation.is_streamed = kind == "drip"
        operations.append(history.asked(operation))
    if kind == "twice" and not how["between"] and how["write"] < TURN_STYLES:
        operations[0].is_half = True
    return operations
