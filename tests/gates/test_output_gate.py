"""The output gate by itself: two counters, and messages that wait for one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable._gates.output_gate import OutputGate


def test_a_gate_that_saw_no_write_is_open() -> None:
    """A message leaves at once."""
    gate, heard = OutputGate(), list[str]()
    gate.when_durable(gate.seqno(), lambda: heard.append("a"))

    assert gate.is_open()
    assert heard == ["a"]


def test_a_message_waits_for_the_writes_before_it_only() -> None:
    """Also for those that are not sealed yet."""
    gate, heard = OutputGate(), list[str]()
    gate.note_write()
    gate.when_durable(gate.seqno(), lambda: heard.append("a"))
    gate.seal()
    gate.note_write()
    gate.when_durable(gate.seqno(), lambda: heard.append("b"))
    gate.seal()
    assert heard == []

    gate.durable = 1
    gate.release()
    assert heard == ["a"]
    gate.durable = 2
    gate.release()
    assert heard == ["a", "b"]
    assert gate.is_open()


def test_an_unconfirmed_write_holds_nothing_back_but_is_waited_for_by_sync() -> None:
    """`seqno_of_all` counts it."""
    gate, heard = OutputGate(), list[str]()
    gate.note_write(confirmed=False)
    gate.when_durable(gate.seqno(), lambda: heard.append("message"))
    gate.when_durable(gate.seqno_of_all(), lambda: heard.append("sync"))
    assert heard == ["message"]

    gate.durable = gate.seal()
    gate.release()
    assert heard == ["message", "sync"]


def test_what_waits_at_a_broken_gate_is_never_sent() -> None:
    """It is forgotten, also by one that breaks the gate while it is let out."""
    gate, heard = OutputGate(), list[str]()
    gate.note_write()
    gate.when_durable(gate.seqno(), gate.drop_waiting)
    gate.when_durable(gate.seqno(), lambda: heard.append("never"))
    gate.durable = gate.seal()
    gate.release()

    assert heard == []


STEPS = ["write", "unconfirmed", "seal", "join", "durable", "say", "sync"]


@given(st.lists(st.sampled_from(STEPS)))
def test_the_counters_are_a_list_of_writes(steps: list[str]) -> None:
    """The reference keeps, for each message, the very writes that it waits for."""
    gate = OutputGate()
    unsealed: list[bool] = []  # whether each write is confirmed
    batches: list[list[bool]] = []  # sealed, not durable yet
    expected: list[tuple[int, set[int]]] = []  # message, and the batches that it waits for
    heard: list[int] = []
    sealed = 0
    for number, step in enumerate(steps):
        if step in {"write", "unconfirmed"}:
            unsealed.append(step == "write")
            gate.note_write(confirmed=step == "write")
        elif step == "seal" and unsealed:
            sealed = gate.seal()
            batches.append(unsealed)
            unsealed = []
        elif step == "join" and unsealed and batches:
            is_promised = any(sealed + 1 in held for _, held in expected)
            assert gate.join_nowait() is not is_promised
            if not is_promised:
                batches[-1] += unsealed
                unsealed = []
        elif step == "durable" and batches:
            batches.pop(0)
            gate.durable = sealed - len(batches)
            gate.release()
        elif step in {"say", "sync"}:
            first = sealed - len(batches) + 1
            held = {
                first + place
                for place, batch in enumerate([*batches, unsealed])
                if batch and (any(batch) or step == "sync")
            }
            expected.append((number, held))
            seqno = gate.seqno() if step == "say" else gate.seqno_of_all()
            gate.when_durable(seqno, lambda number=number: heard.append(number))  # type: ignore[misc]
        durable = sealed - len(batches)
        assert set(heard) == {n for n, held in expected if all(b <= durable for b in held)}
        assert gate.in_flight == len(batches)
