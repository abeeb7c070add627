"""The search for an order of operations that a patient object explains."""

from __future__ import annotations

from typing import Any

import pytest

from durable.testing.simulation.model import Loss, Operation, Search, State, apply


def touch(change: int, called: int, returned: int | None, n: int, was: int = 0, **more: Any) -> Any:
    answer = [n, was] if returned is not None else None
    return Operation("ann", "touch", change, called, returned=returned, n=n, answer=answer, **more)


def read(called: int, returned: int, n: int, last: int) -> Operation:
    answer = [n, last, None, []]
    return Operation("ann", "read", 0, called, returned=returned, n=n, answer=answer)


def birth(at: int, n: int, last: int, may_lose: Loss = Loss.ALL) -> Operation:
    """The object begins with what the disk has."""
    state = State(n, last)
    return Operation("ann", "birth", 0, at, returned=at, n=n, answer=state, may_lose=may_lose)


UNCONFIRMED = {"unconfirmed": True}


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


def test_an_unconfirmed_change_may_be_gone_after_a_failure() -> None:
    """Somebody has heard of it, and a read has seen it."""
    lost = touch(1, 1, 2, 1, **UNCONFIRMED)
    seen = read(3, 4, 1, 1)

    assert Search([lost, seen, birth(5, 0, 0), touch(2, 6, 7, 1)]).succeeds()
    assert Search([lost, seen, birth(5, 1, 1), touch(2, 6, 7, 2, was=1)]).succeeds()


@pytest.mark.parametrize("may_lose", [Loss.NOTHING, Loss.UNSENT])
def test_without_a_failure_an_unconfirmed_change_stays(may_lose: Loss) -> None:
    """Neither an eviction nor an abort takes what was handed to the disk."""
    change = touch(1, 1, 2, 1, **UNCONFIRMED)

    assert not Search([change, birth(5, 0, 0, may_lose)]).succeeds()
    assert Search([change, birth(5, 1, 1, may_lose)]).succeeds()


def test_an_abort_may_lose_what_its_turn_has_written() -> None:
    """A deletion of all is kept even then, without what came after it."""
    first = touch(1, 1, 2, 1, **UNCONFIRMED)
    wipe = Operation("ann", "wipe", 2, 3, n=2, **UNCONFIRMED)

    assert Search([first, wipe, birth(7, 1, 1, Loss.UNSENT)]).succeeds()
    assert Search([first, wipe, birth(7, 0, 0, Loss.UNSENT)]).succeeds()
    assert not Search([first, wipe, birth(7, 0, 0, Loss.NOTHING)]).succeeds()


def test_an_abort_loses_nothing_of_a_turn_that_has_ended() -> None:
    """A deletion of all waits for the batches before it, and what comes after it waits too."""
    first = touch(1, 1, 2, 1, **UNCONFIRMED)
    wipe = Operation("ann", "wipe", 2, 3, returned=4, n=2, answer=[2, None], **UNCONFIRMED)
    last = touch(3, 5, 6, 3, was=2, **UNCONFIRMED)

    assert Search([first, wipe, last, birth(7, 3, 3, Loss.UNSENT)]).succeeds()
    assert not Search([first, wipe, last, birth(7, 2, 2, Loss.UNSENT)]).succeeds()
    assert not Search([first, wipe, last, birth(7, 0, 0, Loss.UNSENT)]).succeeds()


def test_a_deletion_that_outlived_an_abort_may_be_said_to_have_failed() -> None:
    """The disk has it, without the write beside it, and did not say so. Without the abort it has
    both or neither."""
    first = touch(1, 1, 2, 1)
    wipe = Operation("ann", "wipe", 2, 3, n=2)

    assert Search([first, wipe, birth(7, 0, 0, Loss.UNSENT_OR_ALL)]).succeeds()
    assert Search([first, wipe, birth(7, 1, 1, Loss.UNSENT_OR_ALL)]).succeeds()
    assert not Search([first, wipe, birth(7, 0, 0, Loss.ALL)]).succeeds()


def test_a_confirmed_answer_covers_the_unconfirmed_changes_before_it() -> None:
    """The disk takes changes in their order."""
    first = touch(1, 1, 2, 1, **UNCONFIRMED)
    second = touch(2, 3, 4, 2, was=1)

    assert not Search([first, second, birth(5, 0, 0)]).succeeds()
    assert not Search([first, second, birth(5, 1, 1)]).succeeds()
    assert Search([first, second, birth(5, 2, 2)]).succeeds()


def test_a_read_covers_the_confirmed_changes_before_it() -> None:
    """Nobody has heard of the change but through the read."""
    unheard = touch(1, 1, None, 1)

    assert not Search([unheard, read(2, 3, 1, 1), birth(4, 0, 0)]).succeeds()
    assert Search([unheard, birth(4, 0, 0)]).succeeds()


def test_what_was_synced_stays() -> None:
    """`sync()` waits for unconfirmed writes too."""
    synced = touch(1, 1, 2, 1, syncs=True, **UNCONFIRMED)

    assert not Search([synced, birth(5, 0, 0)]).succeeds()


def test_only_the_last_changes_are_lost() -> None:
    """None from the middle: the third without the second was on no disk."""
    changes = [
        touch(1, 1, 2, 1, **UNCONFIRMED),
        touch(2, 3, 4, 2, was=1, **UNCONFIRMED),
        touch(3, 5, 6, 3, was=2, **UNCONFIRMED),
    ]

    assert Search([*changes, birth(7, 1, 1)]).succeeds()
    assert not Search([*changes, birth(7, 2, 3)]).succeeds()
