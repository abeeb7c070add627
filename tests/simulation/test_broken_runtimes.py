"""The checker is checked: a runtime that breaks a promise is found out within 200 seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any

import pytest

from durable._border import rpc, sending, streams, websocket
from durable._border.alarm import AlarmInvocation
from durable._border.arrivals import Arrivals
from durable._border.socket_end import End
from durable._border.sockets import Sockets, sockets_of
from durable._border.websocket import ObjectSocket, end_of
from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks
from durable._engine.history_records import IMAGES
from durable._gates.delivery import Delivery
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._lmdb.environment import Environment
from durable._model.frames import Close
from durable._object.activation import Activation
from durable._runtime.directory import Directory
from durable._storage.cache import Known
from durable._storage.history import History as StoredHistory
from durable._storage.sql.database import Database
from durable._storage.sql.pages import Pages
from durable._storage.write_buffer import WriteBuffer
from durable.testing.simulation import Outcome, power, simulate
from durable.testing.simulation.disk import SteppedCommitter
from durable.testing.simulation.model import PAIR

SEEDS_MAX = 200

Break = Callable[[pytest.MonkeyPatch], None]


def no_output_gate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OutputGate, "is_open", lambda self: True)
    patch.setattr(OutputGate, "hold", lambda self, message: message.let_out())


def opened_too_early(patch: pytest.MonkeyPatch) -> None:
    """Every answer waits for the batch before the one that it rests on."""
    patch.setattr(OutputGate, "is_open", lambda self: self._confirmed - 1 <= self.durable)
    patch.setattr(OutputGate, "seqno", lambda self: self._confirmed - 1)


def half_batches(patch: pytest.MonkeyPatch) -> None:
    commit, counter = Environment.commit, count(1)

    def commit_half(self: Environment, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        for batch in group:
            if len(batch.puts) > 1 and not next(counter) % 7:
                batch.puts.popitem()
        return commit(self, group, may_wait=may_wait)

    patch.setattr(Environment, "commit", commit_half)


def turns_cut_in_two(patch: pytest.MonkeyPatch) -> None:
    """The second of two operations in one turn is a batch of its own."""
    write = WriteBuffer.write

    def seal_and_write(
        self: WriteBuffer, key: str, value: Known, *, confirmed: bool, no_cache: bool
    ) -> None:
        if key == PAIR[0] and PAIR[1] in (self._puts or ()):
            self.seal()
        write(self, key, value, confirmed=confirmed, no_cache=no_cache)

    patch.setattr(WriteBuffer, "write", seal_and_write)


def alarms_lost_on_the_way_to_the_disk(patch: pytest.MonkeyPatch) -> None:
    commit, counter = Environment.commit, count(1)

    def commit_without(self: Environment, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        for batch in group:
            if isinstance(batch.alarm, Alarm) and not next(counter) % 3:
                batch.alarm = UNCHANGED
        return commit(self, group, may_wait=may_wait)

    patch.setattr(Environment, "commit", commit_without)


def alarms_lost_when_they_fail(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AlarmInvocation, "retry", lambda self: None)


def no_input_gate(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes is let in, but for critical sections."""
    enter = InputGate.enter_nowait

    def enter_anyway(self: InputGate, delivery: Delivery[Any]) -> bool:
        return enter(self, delivery) or not self.sections

    patch.setattr(InputGate, "enter_nowait", enter_anyway)


def failed_commits_that_nobody_is_told_of(patch: pytest.MonkeyPatch) -> None:
    submit_all = SteppedCommitter.submit_all

    def hear_only_good(batch: Batch) -> None:
        origin = batch.origin
        batch.origin = Callbacks(
            lambda: origin.batch_durable(batch), lambda error: origin.batch_durable(batch)
        )

    def submit_hopefully(self: SteppedCommitter, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.puts:
                hear_only_good(batch)
        submit_all(self, batches)

    patch.setattr(SteppedCommitter, "submit_all", submit_hopefully)


def successors_that_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A new instance reads the disk while batches of the old one are on their way."""
    activations = Directory._forget

    def forget(self: Directory, activation: Activation) -> None:
        activations(self, activation)
        self._unsettled.pop(activation.id.raw, None)

    patch.setattr(Directory, "_forget", forget)


def socket_messages_that_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(websocket, "send_frame", End.say)


def last_words(patch: pytest.MonkeyPatch) -> None:
    """What an object has said and was not let out is heard when the object is reset."""
    lose = End.lose

    def lose_and_tell(self: End, end: Close, *, forget: bool) -> None:
        held, peer = [] if self.is_lost else list(self.outbox or ()), self.peer()
        for each in held:
            if peer is not None:
                peer.arrive(each.frame, each.size)
        lose(self, end, forget=forget)

    patch.setattr(End, "lose", lose_and_tell)


def turns_that_are_heard_before_their_end(patch: pytest.MonkeyPatch) -> None:
    """What an object says leaves at once, if that rests on nothing: so does what is taken back."""

    def say_at_once(
        delivery: Delivery[Any], release: Callable[[], None], unheard: Any = None
    ) -> None:
        delivery.gate.check()
        output = delivery.gate.output
        output.when_durable(output.seqno(), release, unheard)

    for module in (rpc, streams, sending):
        patch.setattr(module, "say", say_at_once)


def socket_messages_that_come_twice(patch: pytest.MonkeyPatch) -> None:
    """Some of those that a client has sent."""
    made_of, counter = Arrivals._invocation_of, count(1)

    def make_twice(self: Arrivals, ws: ObjectSocket, end: End) -> Any:
        if isinstance(end.inbox[0][0], str) and not next(counter) % 7:
            end.inbox.appendleft(end.inbox[0])
        return made_of(self, ws, end)

    patch.setattr(Arrivals, "_invocation_of", make_twice)


def _on_hibernation(
    patch: pytest.MonkeyPatch, change: Callable[[Sockets, ObjectSocket], object]
) -> None:
    evict = Activation.evict

    def evict_and_change(self: Activation) -> None:
        evict(self)
        sockets = sockets_of(self)
        for ws in sockets.all(None):
            assert isinstance(ws, ObjectSocket)
            change(sockets, ws)

    patch.setattr(Activation, "evict", evict_and_change)


def messages_lost_while_an_object_hibernates(patch: pytest.MonkeyPatch) -> None:
    def stop_listening(sockets: Sockets, ws: ObjectSocket) -> None:
        end_of(ws).on_arrival = None

    _on_hibernation(patch, stop_listening)


def sockets_lost_when_an_object_hibernates(patch: pytest.MonkeyPatch) -> None:
    _on_hibernation(patch, lambda sockets, ws: sockets._forget(ws))


def attachments_lost_when_an_object_hibernates(patch: pytest.MonkeyPatch) -> None:
    _on_hibernation(patch, lambda sockets, ws: setattr(ws, "_attachment", None))


def auto_responses_lost_when_an_object_hibernates(patch: pytest.MonkeyPatch) -> None:
    _on_hibernation(patch, lambda sockets, ws: sockets.set_auto_response(None, None))


def closes_without_a_reply(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(End, "reply", lambda self: None)


def confirmed_writes_behind_unconfirmed_ones_that_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """A turn is what its first write was."""
    note = WriteBuffer._note

    def note_first(self: WriteBuffer, confirmed: bool) -> None:
        if not self.output.has_unsealed:
            note(self, confirmed)

    patch.setattr(WriteBuffer, "_note", note_first)


def unconfirmed_writes_that_open_the_gate(patch: pytest.MonkeyPatch) -> None:
    """What leaves after one waits for nothing that was written before it either."""
    note = OutputGate.note_write

    def note_and_open(self: OutputGate, *, confirmed: bool = True) -> None:
        note(self, confirmed=confirmed)
        if not confirmed:
            self._confirmed = self._durable

    patch.setattr(OutputGate, "note_write", note_and_open)


def unconfirmed_writes_that_nobody_waits_for_at_an_eviction(patch: pytest.MonkeyPatch) -> None:
    in_flight = property(lambda self: max(0, self._confirmed - self.durable))
    patch.setattr(OutputGate, "in_flight", in_flight)


def a_disk_that_lies_about_syncs(patch: pytest.MonkeyPatch) -> None:
    """The meta page is on the disk before the pages that it names."""
    image_at = power.image_at

    def image_with_meta(
        moment: power.Moment, before: bytes, after: bytes, page_size: int, chance: Random
    ) -> bytes:
        image = image_at(moment, before, after, page_size, chance)
        metas = power.META_PAGES * page_size
        return after[:metas] + image[metas:]

    patch.setattr(power, "image_at", image_with_meta)


def sql_that_is_kept_when_it_is_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "roll_back", Database.release)


def pages_that_are_stored_without_their_keys(patch: pytest.MonkeyPatch) -> None:
    """Those of a turn that is lost are stored with the turn after it."""
    end_turn = Pages.end_turn
    lost: dict[str, Any] = {}

    def forget_turn(self: Pages) -> None:
        lost.update({"pages": dict(self.written)} if self.written else {})
        self.written.clear()

    def end_turn_late(self: Pages) -> None:
        written = dict(self.written)
        if lost.get("pages", {}).keys() >= written.keys():
            self.written.update(lost.pop("pages"))
        end_turn(self)

    patch.setattr(Pages, "forget_turn", forget_turn)
    patch.setattr(Pages, "end_turn", end_turn_late)


def tables_that_outlive_a_deletion(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "clear", lambda self: None)


def images_that_are_not_in_the_batch(patch: pytest.MonkeyPatch) -> None:
    """What was before some changes is not stored with them."""
    commit, counter = Environment.commit, count(1)

    def commit_without(self: Environment, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        for batch in group:
            if batch.history and batch.puts and not next(counter) % 5:
                for key in [key for key in batch.history if key.startswith(IMAGES)]:
                    del batch.history[key]
        return commit(self, group, may_wait=may_wait)

    patch.setattr(Environment, "commit", commit_without)


def chapters_that_go_on_after_a_bookmark(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StoredHistory, "close_chapter", lambda self: None)


BROKEN: list[Break] = [
    no_output_gate,
    opened_too_early,
    half_batches,
    turns_cut_in_two,
    alarms_lost_on_the_way_to_the_disk,
    alarms_lost_when_they_fail,
    no_input_gate,
    failed_commits_that_nobody_is_told_of,
    successors_that_do_not_wait,
    socket_messages_that_do_not_wait,
    last_words,
    turns_that_are_heard_before_their_end,
    socket_messages_that_come_twice,
    messages_lost_while_an_object_hibernates,
    sockets_lost_when_an_object_hibernates,
    attachments_lost_when_an_object_hibernates,
    auto_responses_lost_when_an_object_hibernates,
    closes_without_a_reply,
    confirmed_writes_behind_unconfirmed_ones_that_do_not_count,
    unconfirmed_writes_that_open_the_gate,
    unconfirmed_writes_that_nobody_waits_for_at_an_eviction,
    a_disk_that_lies_about_syncs,
    sql_that_is_kept_when_it_is_undone,
    pages_that_are_stored_without_their_keys,
    tables_that_outlive_a_deletion,
    images_that_are_not_in_the_batch,
    chapters_that_go_on_after_a_bookmark,
]


@pytest.fixture(params=BROKEN, ids=lambda broken: broken.__name__)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A runtime with one promise broken; its name."""
    request.param(monkeypatch)
    name: str = request.param.__name__
    return name


def _is_caught(outcome: Outcome) -> bool:
    """By the checker, that is; a crash would be noticed without it."""
    return any(
        re.match(r"P\d|socket \d|\w+ did what no patient", what) for what in outcome.violations
    )


@pytest.mark.filterwarnings("ignore")
def test_a_broken_runtime_is_caught(broken: str) -> None:
    """What the checker does not notice it does not check."""
    outcomes = (simulate(seed, loop) for seed in range(SEEDS_MAX) for loop in ("asyncio", "trio"))
    caught = next((outcome for outcome in outcomes if _is_caught(outcome)), None)

    assert caught is not None, f"{broken} was not noticed in {SEEDS_MAX} seeds"
    print(f"{broken}: {caught.seed}: {caught.violations[0][:500]}")
