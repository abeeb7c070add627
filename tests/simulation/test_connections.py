"""What is checked of one web socket."""

from __future__ import annotations

from typing import Any

import pytest

from durable._border.websocket import WebSocketPair, end_of
from durable.testing.simulation.connections import DROPPED, PING, PONG, Connection, End

CLOSED = End(4_001, "enough", True)
CUT = End(DROPPED, "gone", False)


@pytest.fixture
def broken() -> list[str]:
    """What the connection has found."""
    return []


@pytest.fixture
def troubles() -> list[int]:
    return [0]


@pytest.fixture
def connection(broken: list[str], troubles: list[int]) -> Connection:
    made = Connection(1, "ann", (), broken.append, lambda: troubles[0])
    made.is_accepted(WebSocketPair()[1])
    made.outer = made.end
    return made


def say(connection: Connection, *messages: Any) -> None:
    for change, message in enumerate(messages, 1):
        connection.says(message, change, rests_on=0)


def test_messages_in_order_and_a_close_are_as_they_must_be(
    connection: Connection, broken: list[str]
) -> None:
    """The object says two things, and closes; the client answers the close frame."""
    say(connection, "a", "b", CLOSED)
    connection.hears("a")
    connection.hears("b")
    connection.hears_end(CLOSED)
    connection.object_hears(CLOSED)
    connection.is_gone = True
    connection.judge_at_rest()

    assert not broken


@pytest.mark.parametrize("heard", [["b"], ["a", "a"], ["a", "b", "b"], ["made up"]])
def test_what_was_not_said_next_is_noticed(
    connection: Connection, broken: list[str], heard: list[str]
) -> None:
    """A gap, a message twice, one that nobody said."""
    say(connection, "a", "b")
    for message in heard:
        connection.hears(message)

    assert broken


def test_a_message_that_is_never_heard_is_noticed(
    connection: Connection, broken: list[str]
) -> None:
    """The socket lives, and nothing is on its way."""
    say(connection, "a", "b")
    connection.hears("a")
    connection.judge_at_rest()

    assert len(broken) == 1


def test_a_cut_takes_what_nobody_relies_on(
    connection: Connection, broken: list[str], troubles: list[int]
) -> None:
    """Only what was said in an operation that was answered before must still be heard."""
    say(connection, "a", "b")
    connection.is_answered(1)
    end_of(connection.end).drop()
    troubles[0], connection.is_gone = 1, True
    connection.is_answered(2)
    connection.hears_end(CUT)
    connection.judge_at_rest()

    assert len(broken) == 1
    assert "'a'" in broken[0]


def test_a_cut_without_a_reason_is_noticed(connection: Connection, broken: list[str]) -> None:
    """No object was reset, and none was overloaded."""
    end_of(connection.end).drop()
    connection.hears_end(CUT)

    assert broken


def test_messages_to_one_who_has_closed_need_not_be_heard(
    connection: Connection, broken: list[str]
) -> None:
    """But the object's own close frame is."""
    connection.client_ends(End(1000, "", True))
    say(connection, "a", CLOSED)
    connection.hears_end(CLOSED)
    connection.object_hears(End(1000, "", True))
    connection.is_gone = True
    connection.judge_at_rest()

    assert not broken


def test_an_end_that_nobody_has_made_is_noticed(connection: Connection, broken: list[str]) -> None:
    """By the client, and by the object."""
    connection.hears_end(CLOSED)
    connection.object_hears(CLOSED)

    assert len(broken) == 2


def test_messages_of_the_client_arrive_each_once_and_in_order(
    connection: Connection, broken: list[str]
) -> None:
    """None is left out, not even the last."""
    connection.orders_sent = 3
    connection.arrives(1)
    connection.arrives(2)
    assert not broken
    connection.arrives(2)
    assert len(broken) == 1
    connection.judge_at_rest()

    assert len(broken) == 2


def test_a_closed_socket_that_the_client_never_hears_of_is_noticed(
    connection: Connection, broken: list[str]
) -> None:
    """Both ends must hear the end."""
    connection.client_ends(CLOSED)
    connection.judge_at_rest()

    assert len(broken) == 2


def test_each_ping_has_one_answer(connection: Connection, broken: list[str]) -> None:
    """Neither more nor fewer."""
    assert PING != PONG
    connection.pings = 1
    connection.hears(PONG)
    connection.judge_at_rest()
    assert not broken
    connection.hears(PONG)

    assert len(broken) == 1
