"""The checker is checked: a runtime that breaks a promise is found out within 200 seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from durable._disk.batch import UNCHANGED, Alarm, Batch, Callbacks
from durable._disk.environment import Environment
from durable._gates.delivery import Delivery
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._object.alarms import AlarmEvent
from durable._object.host import Host
from durable._runtime.directory import Directory
from durable.testing.simulation import Outcome, simulate
from durable.testing.simulation.disk import SteppedCommitter

SEEDS_MAX = 200

Break = Callable[[pytest.MonkeyPatch], None]


def no_output_gate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OutputGate, "is_open", lambda self: True)
    patch.setattr(OutputGate, "hold", lambda self, message: message.let_out())


def opened_too_early(patch: pytest.MonkeyPatch) -> None:
    """Every answer waits for the batch before the one that it rests on."""
    patch.setattr(OutputGate, "is_open", lambda self: self._confirmed - 1 <= self._durable)
    patch.setattr(OutputGate, "ticket", lambda self: self._confirmed - 1)


def half_batches(patch: pytest.MonkeyPatch) -> None:
    commit, counter = Environment.commit, count(1)

    def commit_half(self: Environment, group: Sequence[Batch]) -> None:
        for batch in group:
            if len(batch.puts) > 1 and not next(counter) % 7:
                batch.puts.popitem()
        commit(self, group)

    patch.setattr(Environment, "commit", commit_half)


def alarms_lost_on_the_way_to_the_disk(patch: pytest.MonkeyPatch) -> None:
    commit, counter = Environment.commit, count(1)

    def commit_without(self: Environment, group: Sequence[Batch]) -> None:
        for batch in group:
            if isinstance(batch.alarm, Alarm) and not next(counter) % 3:
                batch.alarm = UNCHANGED
        commit(self, group)

    patch.setattr(Environment, "commit", commit_without)


def alarms_lost_when_they_fail(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AlarmEvent, "retry", lambda self: None)


def no_input_gate(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes is let in, but for critical sections."""
    enter = InputGate.enter_nowait

    def enter_anyway(self: InputGate, delivery: Delivery[Any]) -> bool:
        return enter(self, delivery) or not (self._sections or self._pending)

    patch.setattr(InputGate, "enter_nowait", enter_anyway)


def failed_commits_that_nobody_is_told_of(patch: pytest.MonkeyPatch) -> None:
    submit = SteppedCommitter.submit

    def submit_hopefully(self: SteppedCommitter, batch: Batch) -> None:
        if batch.puts:
            origin = batch.origin
            batch.origin = Callbacks(
                lambda: origin.batch_durable(batch), lambda error: origin.batch_durable(batch)
            )
        submit(self, batch)

    patch.setattr(SteppedCommitter, "submit", submit_hopefully)


def successors_that_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A new instance reads the disk while batches of the old one are on their way."""
    hosts = Directory._forget

    def forget(self: Directory, host: Host) -> None:
        hosts(self, host)
        self._unsettled.pop(host.id.raw, None)

    patch.setattr(Directory, "_forget", forget)


BROKEN: list[Break] = [
    no_output_gate,
    opened_too_early,
    half_batches,
    alarms_lost_on_the_way_to_the_disk,
    alarms_lost_when_they_fail,
    no_input_gate,
    failed_commits_that_nobody_is_told_of,
    successors_that_do_not_wait,
]


@pytest.fixture(params=BROKEN, ids=lambda broken: broken.__name__)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A runtime with one promise broken; its name."""
    request.param(monkeypatch)
    name: str = request.param.__name__
    return name


def _is_caught(outcome: Outcome) -> bool:
    """By the checker, that is; a crash would be noticed without it."""
    return any(re.match(r"P\d|\w+ did what no patient", what) for what in outcome.violations)


@pytest.mark.filterwarnings("ignore")
def test_a_broken_runtime_is_caught(broken: str) -> None:
    """What the checker does not notice it does not check."""
    outcomes = (simulate(seed) for seed in range(SEEDS_MAX))
    caught = next((outcome for outcome in outcomes if _is_caught(outcome)), None)

    assert caught is not None, f"{broken} was not noticed in {SEEDS_MAX} seeds"
    print(f"{broken}: {caught.seed}: {caught.violations[0][:500]}")
