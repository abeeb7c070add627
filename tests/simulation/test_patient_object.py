"""The search for an order of operations that a patient object explains."""

from __future__ import annotations

from typing import Any

from durable.testing.simulation.model import Operation, Search, State, apply


def touch(change: int, called: int, returned: int | None, n: int, was: int = 0, **more: Any) -> Any:
    answer = [n, was] if returned is not None else None
    return Operation("ann", "touch", change, called, returned=returned, n=n, answer=answer, **more)


def read(called: int, returned: int, n: int, last: int) -> Operation:
    answer = [n, last, None, []]
    return Operation("ann", "read", 0, called, returned=returned, n=n, answer=answer)


def test_one_after_the_other_is_explained() -> None:
    """Two changes and a read of the second."""
    search = Search([touch(1, 1, 2, 1), touch(2, 3, 4, 2, was=1), read(5, 6, 2, 2)])

    assert search.succeeds()
    assert search.state == State(n=2, last=2)


def test_operations_at_one_time_may_be_in_any_order() -> None:
    """The one that was asked for later may come first."""
    assert Search([touch(1, 1, 8, 2, was=2), touch(2, 2, 7, 1), read(3, 6, 1, 2)]).succeeds()


def test_a_lost_update_is_not_explained() -> None:
    """Two changes that reached the same number."""
    assert not Search([touch(1, 1, 8, 1), touch(2, 2, 7, 1)]).succeeds()


def test_a_read_of_the_past_is_not_explained() -> None:
    """What was heard before the read was asked for must be in it."""
    assert not Search([touch(1, 1, 2, 1), read(3, 4, 0, 0)]).succeeds()


def test_an_acknowledged_change_must_stay() -> None:
    """A later life of the store that does not know it is not explained."""
    assert not Search([touch(1, 1, 2, 1), touch(2, 9, 10, 1)]).succeeds()


def test_what_nobody_heard_of_may_have_happened_or_not() -> None:
    """A cancelled call is in the history of one read, and not in that of the other."""
    cancelled = touch(1, 1, None, 1)

    assert Search([cancelled, read(2, 3, 1, 1)]).succeeds()
    assert Search([cancelled, read(2, 3, 0, 0)]).succeeds()


def test_what_nobody_heard_of_cannot_happen_in_a_later_life() -> None:
    """Once a later life has been asked for something, what came before it is decided."""
    lost = touch(1, 1, None, 1, over=4)

    assert not Search([lost, read(5, 6, 0, 0), read(7, 8, 1, 1)]).succeeds()


def test_the_second_half_comes_after_the_first() -> None:
    """The two steps of one call keep their order."""
    first = touch(1, 1, 9, 2, was=2)
    second = touch(2, 1, 9, 1, after=first)

    assert not Search([first, second]).succeeds()


def test_an_answer_that_no_object_gave_is_not_explained() -> None:
    """The object's own code must have done what was heard."""
    made_up = Operation("ann", "touch", 1, 1, returned=2, answer=[1, 0])

    assert not Search([made_up]).succeeds()


def test_the_patient_object_wipes_its_alarm() -> None:
    """As `delete_all` does."""
    state, answer = apply(State(3, 2, due=77, keys=(("k0", 1),)), Operation("ann", "wipe", 9, 0))

    assert state == State(4, 9)
    assert answer == [4, None]
