"""The patient object: what one object would answer if it did one thing at a time, and never broke.

Its state is a number that every change raises by one, a pair of equal values that name the last
change, the time of its alarm, and a few keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, field, frozen

PAIR = ("left", "right")


@frozen
class State:
    """All that an object remembers."""

    n: int = 0
    last: int = 0  # the change that was made last
    due: int | None = None  # its alarm, in microseconds
    keys: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> State:
        """The state that the stored records *found* make up."""
        keys = tuple(sorted((k, v) for k, v in found.items() if k.startswith("k")))
        return cls(found.get("n", 0), found.get(PAIR[0], 0), found.get("due"), keys)


@define(eq=False)
class Operation:
    """One step on one object, asked for from outside, and what became of it.

    Times are numbers of events in the history. An operation whose answer nobody heard may have
    happened or not, until the life of the store that it was asked in ended.
    """

    object: str
    kind: str
    change: int  # names it
    called: int
    key: str = ""
    value: Any = None
    returned: int | None = None
    answer: Any = None
    over: int | None = None  # when the life ended
    after: Operation | None = None
    # What the object's own code says it did: the number it made, or saw.
    n: int | None = None
    due: int | None = None

    @property
    def is_known(self) -> bool:
        """Somebody heard the answer, so it has happened."""
        return self.returned is not None

    def __repr__(self) -> str:
        heard = f"heard {self.answer!r} at {self.returned}" if self.is_known else "not heard"
        what = f"{self.kind} {self.key}={self.value!r}" if self.key else self.kind
        asked = f"{self.object}.{what} #{self.change}, called at {self.called}"
        return f"<{asked}, n={self.n}, {heard}>"


def apply(state: State, operation: Operation) -> tuple[State, Any]:
    """The state after *operation*, and its answer."""
    kind = operation.kind
    if kind == "read":
        return state, [state.n, state.last, state.due, [list(pair) for pair in state.keys]]
    keys = dict(state.keys)
    due = state.due
    was: Any = None
    if kind == "set":
        was = keys.get(operation.key)
        keys[operation.key] = operation.value
    elif kind == "drop":
        was = keys.pop(operation.key, None) is not None
    elif kind == "wipe":
        keys, due = {}, None
    elif kind == "remind":
        due = operation.due
    elif kind == "forget":
        due = None
    elif kind == "ring":
        due = None if due == operation.due else due
    else:
        assert kind == "touch", kind
        was = state.last
    made = evolve(
        state, n=state.n + 1, last=operation.change, due=due, keys=tuple(sorted(keys.items()))
    )
    return made, [made.n, was]


@define(eq=False)
class Search:
    """Whether the operations on one object can be put in an order that a patient object explains.

    The order must agree with time: what was heard before another was asked for comes before it.
    (Wing and Gong's search. That each change has a number leaves it little to try.)
    """

    operations: list[Operation]
    # What the best try could not explain, for the report.
    best: list[Operation] = field(factory=list, init=False)
    state: State = field(factory=State, init=False)

    def succeeds(self) -> bool:
        self.operations = sorted(
            (o for o in self.operations if o.is_known or o.n is not None), key=lambda o: o.called
        )
        known = sum(1 << place for place, o in enumerate(self.operations) if o.is_known)
        tries: list[tuple[int, int, State, tuple[Operation, ...]]] = [(0, -1, State(), ())]
        seen: set[tuple[int, State]] = set()
        while tries:
            done, latest, state, order = tries.pop()
            if done & known == known:
                self.best, self.state = list(order), state
                return True
            if (done, state) in seen:
                continue
            seen.add((done, state))
            if len(order) >= len(self.best):
                self.best, self.state = list(order), state
            tries.extend(self._next(done, latest, state, order))
        return False

    def _next(
        self, done: int, latest: int, state: State, order: tuple[Operation, ...]
    ) -> list[tuple[int, int, State, tuple[Operation, ...]]]:
        found = []
        left = [(p, o) for p, o in enumerate(self.operations) if not done >> p & 1]
        bound = min((o.returned for _, o in left if o.returned is not None), default=None)
        for place, operation in left:
            if bound is not None and operation.called > bound:
                break
            is_late = not operation.is_known and operation.over is not None
            if is_late and latest > (operation.over or 0):
                continue
            if operation.after is not None and operation.after not in order:
                continue
            after, answer = apply(state, operation)
            if operation.n != after.n or (operation.is_known and operation.answer != answer):
                continue
            step = (
                done | 1 << place,
                max(latest, operation.called),
                after,
                (*order, operation),
            )
            if operation.kind == "read":
                return [step]  # it changes nothing, so now is as good as later
            # What was heard is tried first, which is last in the list.
            found.append(step)
        found.sort(key=lambda step: step[3][-1].is_known)
        return found

    def report(self) -> str:
        """What was explained last, and what could not be."""
        explained = [f"    {o!r}" for o in self.best[-3:]]
        left = [o for o in self.operations if o not in self.best][:6]
        return "\n".join(
            ["  explained, last:", *explained, f"  which leaves {self.state}", "  not explained:"]
            + [f"    {o!r}" for o in left]
        )
