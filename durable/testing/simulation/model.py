"""The model: what one object would answer if it did one thing at a time, and never broke.

Its state is a number that every change raises by one, a pair of equal values that name the last
change, the time of its alarm, and a few keys.

What breaks is the machine below it. When its memory is lost it begins again with what the disk has.
That is all of its state, or it lacks the last changes. It never lacks one whose answer was
received, unless that was made with `allow_unconfirmed`, nor one before a confirmed change of which
that is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
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


class Loss(Enum):
    """What may be lost with an object's memory, of what need not be kept."""

    NOTHING = "nothing"
    # An object that is reset drops what the turn under way has written, of which nothing was
    # received but an item of a stream, which leaves in the middle of its turn.
    UNSENT = "what no turn that has ended has written"
    # The power failed, or a commit.
    ALL = "all"
    # The object was reset, and then the power failed, or a commit that said so wrongly.
    UNSENT_OR_ALL = "either"

    @classmethod
    def by(cls, *, reset: bool, failure: bool) -> Loss:
        if failure:
            return cls.UNSENT_OR_ALL if reset else cls.ALL
        return cls.UNSENT if reset else cls.NOTHING


@define(eq=False)
class Operation:
    """One step on one object, requested from outside, and its outcome.

    Times are numbers of events in the history. An operation whose answer was not received may have
    happened or not, until the object's memory or the life of the store was lost that it was in.

    A birth is an operation too: the object begins with the state that the disk has.
    """

    object: str
    kind: str
    change: int  # names it
    called: int
    key: str = ""
    value: Any = None
    returned: int | None = None
    answer: Any = None
    over: int | None = None  # when the life ended, or a successor of the instance was born
    after: Operation | None = None
    # Its writes need not be on the disk when its answer is received.
    unconfirmed: bool = False
    # Its answer waits until all is on the disk that was written before, unconfirmed or not.
    syncs: bool = False
    # Its answer is an item of a stream.
    is_streamed: bool = False
    # The next one is made in the same turn, so both are on the disk or none.
    is_half: bool = False
    # A birth: what may have been lost with the memory before it.
    may_lose: Loss = Loss.NOTHING
    # The number that the object's own code reports: the one it made, or saw.
    n: int | None = None
    due: int | None = None
    # Of what was made by then, the last number that must be on the disk when this one is heard.
    rests_on: int = 0

    @property
    def is_known(self) -> bool:
        """The answer was received, so it has happened."""
        return self.returned is not None

    def __repr__(self) -> str:
        heard = f"heard {self.answer!r} at {self.returned}" if self.is_known else "not heard"
        what = f"{self.kind} {self.key}={self.value!r}" if self.key else self.kind
        what += " unconfirmed" * self.unconfirmed
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


@frozen
class Unsure:
    """A change that may not be on the disk, as far as is known outside."""

    before: State
    is_confirmed: bool
    may_be_unsent: bool
    is_wipe: bool


@frozen
class Course:
    """How far the model has come, and which of its last changes the disk may not have."""

    state: State = State()
    unsure: tuple[Unsure, ...] = ()  # the oldest first

    def after(self, operation: Operation) -> Course | None:
        """How it goes on; None if the operation cannot have been next."""
        if operation.kind == "birth":
            return self._reborn(operation)
        state, answer = apply(self.state, operation)
        if operation.n != state.n or (operation.is_known and operation.answer != answer):
            return None
        unsure = self.unsure
        if operation.kind != "read":
            unsure = (*unsure, _unsure(self.state, operation))
        if operation.is_known:
            unsure = _left_unsure(unsure, operation.syncs)
        return Course(state, unsure)

    def _reborn(self, birth: Operation) -> Course | None:
        is_failure = birth.may_lose in {Loss.ALL, Loss.UNSENT_OR_ALL}
        lost = list(self.unsure) if is_failure else []
        if birth.may_lose is Loss.UNSENT:
            first = next((p for p, change in enumerate(self.unsure) if change.may_be_unsent), None)
            lost = [] if first is None else list(self.unsure[first:])
        states = [self.state, *[change.before for change in lost]]
        is_reset = birth.may_lose in {Loss.UNSENT, Loss.UNSENT_OR_ALL}
        if is_reset and any(change.is_wipe for change in lost):
            states.append(State())  # it outlives the reset, and the writes beside it do not
        return Course(birth.answer) if birth.answer in states else None


def _unsure(before: State, operation: Operation) -> Unsure:
    is_wipe = operation.kind == "wipe"
    may_be_unsent = operation.is_streamed or (is_wipe and not operation.is_known)
    return Unsure(before, not operation.unconfirmed, may_be_unsent, is_wipe)


def _left_unsure(unsure: tuple[Unsure, ...], syncs: bool) -> tuple[Unsure, ...]:
    """What is still unsure when an answer has left: it has waited for all confirmed changes, and
    the disk takes changes in their order."""
    place = len(unsure)
    while place and not syncs and not unsure[place - 1].is_confirmed:
        place -= 1
    return unsure[place:]


@define(eq=False)
class Search:
    """Whether the operations on one object can be put in an order that the model explains.

    The order must agree with time: an answer that was received before another operation was
    requested comes before it.
    (Wing and Gong's search. That each change has a number leaves it little to try.)
    """

    operations: list[Operation]
    # What the best try could not explain, for the report.
    best: list[Operation] = field(factory=list, init=False)
    course: Course = field(factory=Course, init=False)

    @property
    def state(self) -> State:
        return self.course.state

    def succeeds(self) -> bool:
        self.operations = sorted(
            (o for o in self.operations if o.is_known or o.n is not None), key=lambda o: o.called
        )
        known = sum(1 << place for place, o in enumerate(self.operations) if o.is_known)
        tries: list[tuple[int, int, Course, tuple[Operation, ...]]] = [(0, -1, Course(), ())]
        seen: set[tuple[int, Course]] = set()
        while tries:
            done, latest, course, order = tries.pop()
            if done & known == known:
                self.best, self.course = list(order), course
                return True
            if (done, course) in seen:
                continue
            seen.add((done, course))
            if len(order) >= len(self.best):
                self.best, self.course = list(order), course
            tries.extend(self._next(done, latest, course, order))
        return False

    def _next(
        self, done: int, latest: int, course: Course, order: tuple[Operation, ...]
    ) -> list[tuple[int, int, Course, tuple[Operation, ...]]]:
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
            after = course.after(operation)
            if after is None:
                continue
            step = (
                done | 1 << place,
                max(latest, operation.called),
                after,
                (*order, operation),
            )
            if operation.kind == "read":
                return [step]  # it changes nothing, so now is as good as later
            # Operations whose answers were received are tried first, which is last in the list.
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
