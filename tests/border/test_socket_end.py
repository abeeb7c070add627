"""The machine of a web socket, called by hand: no event loop, no object, no disk.

The two ends are held against a model that is a few lines long and keeps flags and lists where the
machine has tables of states: whatever is sent, held back, read, closed, dropped, cut or freed, in
whatever order, both have the same messages in the same places and stand in the same state.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import define, field
from hypothesis import Phase as Of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durable import DurableError, WebSocket
from durable._border import socket_conversation, socket_states
from durable._border.outbox import Held
from durable._border.socket_end import End, join
from durable._border.socket_states import (
    NEXT_PHASE,
    NEXT_USE,
    READY_STATES,
    Act,
    Phase,
    SentAfterClose,
    Step,
    Use,
    use_after,
)
from durable._border.unread import UNREAD_BYTES_MAX, UNREAD_BYTES_WAIT
from durable._model.frames import DROPPED, NO_CODE, TOO_SLOW, Close, Frame

SIDES = st.sampled_from([0, 1])
SIZES = st.sampled_from([1, 100, UNREAD_BYTES_WAIT, UNREAD_BYTES_MAX // 2])


@define(eq=False)
class Gate:
    """All that an end asks of the gate of an object."""

    broken: BaseException | None = None


@define(eq=False)
class Kept:
    """A frame that the model holds back."""

    frame: Frame
    size: int
    gate: Gate | None
    held: Held | None
    may_leave: bool = False

    @property
    def is_void(self) -> bool:
        return not self.may_leave and self.gate is not None and self.gate.broken is not None


@define(eq=False)
class Side:
    """One end, in flags."""

    is_new: bool = True
    may_hibernate: bool = True
    speaks: bool = False
    has_closed: bool = False
    is_lost: bool = False
    heard: Close | None = None
    inbox: list[tuple[Frame, int]] = field(factory=list)
    held: list[Kept] = field(factory=list)

    @property
    def has_close_frame(self) -> bool:
        return any(isinstance(frame, Close) for frame, _ in self.inbox)

    @property
    def ready_state(self) -> int:
        if self.is_lost or (self.has_closed and self.heard is not None):
            return WebSocket.CLOSED
        return WebSocket.CLOSING if self.has_closed or self.heard is not None else WebSocket.OPEN

    def arrive(self, frame: Frame, size: int) -> None:
        if not self.is_lost or isinstance(frame, Close):
            self.inbox.append((frame, size))

    def lose(self, code: int, *, forget: bool) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self.held.clear()
        if forget:
            self.inbox.clear()
        if self.heard is None and not self.has_close_frame:
            self.arrive(Close(code, "", False), 0)


class Pair(RuleBasedStateMachine):
    """Does the same to two ends and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[End | None] = [End(), End()]
        self.sides = [Side(), Side()]
        self.gates = [Gate(), Gate()]
        self.told: list[Callable[[], object]] = []
        self.texts = map(str, itertools.count())
        one, other = self.ends
        assert one is not None
        assert other is not None
        join(one, other)
        for end in (one, other):
            end.call_soon = self.told.append

    def there(self, at: int) -> tuple[End, Side]:
        end = self.ends[at]
        assert end is not None
        return end, self.sides[at]

    def is_there(self, at: int) -> bool:
        return self.ends[at] is not None

    # Who reads

    @rule(at=SIDES)
    def accept(self, at: int) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if end.use is Use.HIBERNATABLE:
            with pytest.raises(TypeError):
                end.accept(None)
            return
        end.accept(None)
        side.is_new, side.speaks = False, True

    @rule(at=SIDES)
    def hibernate(self, at: int) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        other = self.sides[1 - at]
        is_pair_used = self.is_there(1 - at) and not (other.is_new and other.may_hibernate)
        if not side.is_new or is_pair_used:
            with pytest.raises(DurableError):
                end.check_hibernate()
            return
        end.check_hibernate()
        end.hibernate()
        side.is_new, side.speaks = False, True

    @rule(at=SIDES)
    def give(self, at: int) -> None:
        """It leaves in a Response: what has arrived goes with it, and a spent end stays."""
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if not side.is_new:
            with pytest.raises(TypeError):
                end.give()
            return
        spent = end.give()
        side.may_hibernate = False  # its peer may not any more

        assert (spent.use, spent.phase, len(spent.inbox)) == (Use.GIVEN, end.phase, 0)
        with pytest.raises(TypeError):
            spent.may_send()

    # What they say

    @rule(at=SIDES, size=SIZES, is_held=st.booleans())
    def send(self, at: int, size: int, is_held: bool) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if not side.speaks or side.has_closed:
            with pytest.raises(SentAfterClose if side.speaks else TypeError):
                end.may_send()
            return
        assert end.may_send() is not side.is_lost
        if side.is_lost:
            return
        has_room = self.unread(1 - at) <= UNREAD_BYTES_MAX
        assert end.reserve(size) is (self.is_there(1 - at) and has_room)
        if not self.is_there(1 - at):
            return
        if not has_room:
            self.model_cut(1 - at)
            return
        self.say(at, next(self.texts), size, is_held)

    def say(self, at: int, frame: Frame, size: int, is_held: bool) -> None:
        end, side = self.there(at)
        if is_held:
            gate = self.gates[at]
            side.held.append(Kept(frame, size, gate, end.hold(frame, size, cast("Any", gate))))
        else:
            side.held.append(Kept(frame, size, None, None, may_leave=True))
            end.say(frame, size)
            self.flush(at)

    def flush(self, at: int) -> None:
        side = self.sides[at]
        while side.held and (side.held[0].may_leave or side.held[0].is_void):
            kept = side.held.pop(0)
            if not kept.is_void and self.is_there(1 - at):
                self.sides[1 - at].arrive(kept.frame, kept.size)

    @rule(at=SIDES, which=st.integers(0, 9))
    def release(self, at: int, which: int) -> None:
        """One of the writes that messages rest on is durable."""
        if not self.is_there(at):
            return
        _, side = self.there(at)
        waiting = [kept for kept in side.held if not kept.may_leave]
        if waiting:
            kept = waiting[which % len(waiting)]
            assert kept.held is not None
            kept.may_leave = True
            kept.held.leave()
            self.flush(at)

    @rule(at=SIDES)
    def reset(self, at: int) -> None:
        """The object is reset: what it said and was not let out is never heard."""
        if not self.is_there(at):
            return
        end, _ = self.there(at)
        self.gates[at].broken = RuntimeError()
        self.gates[at] = Gate()
        end.flush()
        self.flush(at)

    @rule(at=SIDES, is_held=st.booleans())
    def close(self, at: int, is_held: bool) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if not side.speaks:
            with pytest.raises(TypeError):
                end.close()
            return
        is_news = not side.has_closed and not side.is_lost
        assert end.close() is is_news
        if is_news:
            side.has_closed = True
            self.say(at, Close(NO_CODE, "", True), 0, is_held)

    # What they read

    @rule(at=SIDES, replies=st.booleans())
    def read(self, at: int, replies: bool) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if not side.speaks or not side.inbox:
            return
        frame, _ = side.inbox.pop(0)
        taken = end.take()
        if isinstance(frame, Close):
            assert isinstance(taken, Close)
            self.hear(at, taken, replies)
        else:
            assert taken == frame

    @rule(at=SIDES, replies=st.booleans())
    def read_last_word(self, at: int, replies: bool) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        if not side.speaks:
            return
        frame = end.take_last_word()
        assert (frame is not None) is (side.heard is None and side.has_close_frame)
        if frame is not None:
            side.inbox.pop()
            self.hear(at, frame, replies)

    def hear(self, at: int, frame: Close, replies: bool) -> None:
        end, side = self.there(at)
        side.heard = frame
        end.hear(frame)
        if replies:
            is_due = not side.has_closed and not side.is_lost
            reply = end.reply()
            assert (reply is not None) is is_due
            if reply is not None:
                side.has_closed = True
                assert (reply.code, reply.reason) == (frame.code, frame.reason)
                self.say(at, reply, 0, False)

    # How they end

    @rule(at=SIDES)
    def drop(self, at: int) -> None:
        if not self.is_there(at):
            return
        end, side = self.there(at)
        end.drop()
        side.lose(DROPPED, forget=True)
        if self.is_there(1 - at):
            self.sides[1 - at].lose(DROPPED, forget=False)

    @rule(at=SIDES)
    def cut(self, at: int) -> None:
        """It has too much unread, of all that have."""
        if not self.is_there(at):
            return
        end, _ = self.there(at)
        end.cut()
        self.model_cut(at)

    def model_cut(self, at: int) -> None:
        side = self.sides[at]
        if side.is_lost or not self.is_there(1 - at):
            last = [each for each in side.inbox if isinstance(each[0], Close)]
            side.inbox[:] = last
            return
        side.lose(TOO_SLOW, forget=True)
        self.sides[1 - at].lose(TOO_SLOW, forget=False)

    @precondition(lambda self: all(end is not None for end in self.ends))
    @rule(at=SIDES)
    def free(self, at: int) -> None:
        """The last reference to an end goes; the other one is told on its loop, once."""
        other, side = self.there(1 - at)
        self.ends[at] = None

        assert other.peer() is None
        assert len(self.told) == (0 if side.is_lost else 1)

    @precondition(lambda self: self.told)
    @rule()
    def hear_of_the_loss(self) -> None:
        self.told.pop()()
        for at in (0, 1):
            if self.is_there(at):
                self.sides[at].lose(DROPPED, forget=False)

    # What must be true

    def unread(self, at: int) -> int:
        waits = [size for _, size in self.sides[at].inbox]
        return sum(waits) + sum(kept.size for kept in self.sides[1 - at].held)

    @invariant()
    def both_are_the_same(self) -> None:
        for at in (0, 1):
            if not self.is_there(at):
                continue
            end, side = self.there(at)
            assert [_plain(frame) for frame, _ in end.inbox] == [
                _plain(frame) for frame, _ in side.inbox
            ]
            assert READY_STATES[end.phase] == side.ready_state
            assert end.is_lost is side.is_lost
            assert end.heard is side.heard
            assert end.is_leaving is (not side.is_lost and (not side.has_closed or bool(side.held)))
            if self.is_there(1 - at):
                assert end.unread.bytes == self.unread(at)
                must_wait = not self.sides[1 - at].is_lost and self.unread(at) > UNREAD_BYTES_WAIT
                peer, _ = self.there(1 - at)
                assert peer.must_wait() is must_wait


def _plain(frame: Frame) -> object:
    return frame.code if isinstance(frame, Close) else frame


Pair.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestPair = Pair.TestCase


def heard_after_a_loss(patch: pytest.MonkeyPatch) -> None:
    """What is held back is heard although its sender was dropped."""
    lose = End.lose

    def lose_and_say(self: End, end: Close, *, forget: bool) -> None:
        for held in self.outbox or ():
            held.may_leave = True
        self.flush()
        lose(self, end, forget=forget)

    patch.setattr(End, "lose", lose_and_say)


def out_of_order(patch: pytest.MonkeyPatch) -> None:
    """A message that need not wait overtakes those that do."""

    def say(self: End, frame: Frame, size: int) -> None:
        peer = self.peer()
        if peer is not None:
            peer.arrive(frame, size)

    patch.setattr(End, "say", say)


def counted_for_good(patch: pytest.MonkeyPatch) -> None:
    """What a reset object has said counts as unread for ever."""
    patch.setattr(Held, "is_void", property(lambda self: False))


def another_table(patch: pytest.MonkeyPatch) -> None:
    """After a loss, this end may still close."""
    changed = {**NEXT_PHASE, Phase.LOST: {Step.CLOSE: Phase.ENDED}}
    patch.setattr(socket_conversation, "NEXT_PHASE", changed)


@pytest.mark.parametrize(
    "fault", [heard_after_a_loss, out_of_order, counted_for_good, another_table]
)
def test_the_model_tells_a_machine_that_breaks_a_rule(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that agrees with everything would show nothing."""
    fault(monkeypatch)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Pair, settings=settings(max_examples=2_000, database=None, phases=[Of.generate])
        )


# The tables


def test_the_table_of_phases_is_as_its_file_says() -> None:
    """The table in the first lines is the one that runs."""
    rows = _rows("phase")
    steps = (Step.CLOSE, Step.HEAR, Step.LOSE)
    assert [Phase[name] for name, *_ in rows] == list(Phase)

    for name, *following, ready_state in rows:
        expected = {
            step: Phase[phase] for step, phase in zip(steps, following, strict=True) if phase != "-"
        }
        assert NEXT_PHASE[Phase[name]] == expected
        assert READY_STATES[Phase[name]] == getattr(WebSocket, ready_state)


def test_the_table_of_uses_is_as_its_file_says() -> None:
    """What is refused raises, and the state after it is the state before."""
    rows = _rows("state")
    assert [Use[name] for name, *_ in rows] == list(Use)

    for name, *following, speaks in rows:
        use = Use[name]
        for act, after in zip((Act.ACCEPT, Act.HIBERNATE, Act.GIVE), following, strict=True):
            if after == "refused":
                assert act not in NEXT_USE[use]
                with pytest.raises(DurableError if act is Act.HIBERNATE else TypeError):
                    use_after(use, act)
            else:
                assert use_after(use, act) is Use[after]
        assert (use in socket_states.SPEAKING) is (speaks == "allowed")


def _rows(first: str) -> list[list[str]]:
    """The rows of the table in the file whose first column is called *first*."""
    text = socket_states.__doc__ or ""
    table = text[text.index(f"    {first} ") :].split("\n\n")[0]
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:]]


# What an end calls


def test_a_bell_rings_once_when_something_arrives() -> None:
    """Tasks that wait to read are woken, and the next ones ask anew."""
    one, other = End(), End()
    join(one, other)
    rung: list[str] = []

    @define
    class Bell:
        def set(self) -> None:
            rung.append("rung")

        async def wait(self) -> None: ...

    other.arrival = Bell()
    one.say("a", 65)
    one.say("b", 65)

    assert rung == ["rung"]
    assert other.arrival is None


def test_room_is_told_when_the_peer_has_read_enough() -> None:
    """And not before a task has asked for it."""
    one, other = End(Use.ACCEPTED), End(Use.ACCEPTED)
    join(one, other)
    freed: list[str] = []

    @define
    class Bell:
        def set(self) -> None:
            freed.append("freed")

        async def wait(self) -> None: ...

    for _ in range(2):
        assert one.reserve(UNREAD_BYTES_WAIT)
        one.say("x", UNREAD_BYTES_WAIT)
    assert one.must_wait()
    one.room = Bell()
    other.take()

    assert freed == ["freed"]
    assert not one.must_wait()


def test_whoever_reads_hears_of_each_arrival_and_of_the_last_word() -> None:
    """`on_arrival` of all frames, `on_last_word` of a close frame alone, at once if it is there."""
    one, other = End(Use.ACCEPTED), End()
    join(one, other)
    heard: list[object] = []
    other.on_arrival = lambda end: heard.append(end.inbox[-1][0])
    one.say("a", 65)
    one.say(Close(1000, "", True), 0)
    other.accept(lambda end: heard.append("last word"))

    assert heard == ["a", Close(1000, "", True), "last word"]
