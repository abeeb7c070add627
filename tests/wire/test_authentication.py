"""Authentication: who knows the secret is let in, and nobody else learns anything by trying."""

from __future__ import annotations

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from durable._wire.authentication import (
    BYTES_MAX,
    MAGIC,
    NONCE_SIZE,
    PROOF_SIZE,
    NotAuthentic,
    Refused,
    Steps,
    connecting,
    listening,
)

SECRET = b"the secret of sixteen bytes and more"
OTHER = b"another secret, of somebody else's store"


@define
class Side:
    """One side, fed by hand."""

    steps: Steps
    sent: bytes = b""
    wanted: int = 0
    name: str | None = None
    error: Exception | None = None
    _came: bytes = b""
    _has_begun: bool = field(default=False)

    def feed(self, came: bytes = b"") -> Side:
        self._came += came
        while self.name is None and self.error is None:
            if len(self._came) < self.wanted:
                break
            part, self._came = self._came[: self.wanted], self._came[self.wanted :]
            try:
                step = self.steps.send(part) if self._has_begun else next(self.steps)
            except StopIteration as end:
                self.name = end.value
            except (NotAuthentic, Refused) as error:
                self.error = error
            else:
                self._has_begun = True
                self.sent += step.send
                self.wanted = step.read
        return self

    def take(self) -> bytes:
        """What it has sent since it was last asked."""
        sent, self.sent = self.sent, b""
        return sent


def listener(secret: bytes = SECRET, name: str = "listener") -> Side:
    return Side(listening(secret, name)).feed()


def connector(
    secret: bytes = SECRET, name: str = "connector", looked_for: str = "listener"
) -> Side:
    return Side(connecting(secret, name, looked_for)).feed()


def exchange(one: Side, other: Side) -> list[bytes]:
    """Let the two speak; returns what was said, one after the other."""
    said = []
    while one.sent or other.sent:
        for speaker, hearer in ((one, other), (other, one)):
            if speaker.sent:
                said.append(speaker.take())
                hearer.feed(said[-1])
    return said


def test_two_that_know_the_secret_know_each_other() -> None:
    one, other = listener(), connector()
    exchange(one, other)

    assert (one.name, other.name) == ("connector", "listener")


def test_the_secret_is_not_said() -> None:
    said = b"".join(exchange(listener(), connector()))

    assert SECRET not in said
    assert len(said) <= 2 * BYTES_MAX


def test_one_with_another_secret_is_refused_and_told_so() -> None:
    one, other = listener(), connector(OTHER)
    said = exchange(one, other)

    assert isinstance(one.error, Refused)
    assert isinstance(other.error, Refused)
    assert "another secret" in str(other.error)
    assert said[-1] == bytes(PROOF_SIZE)  # nothing was proved to it


def test_a_listener_without_the_secret_is_refused() -> None:
    """It says that all is well, whatever it was told."""
    other = connector()
    other.feed(MAGIC + bytes(range(NONCE_SIZE)) + b"\x08listener")
    other.feed(bytes(range(PROOF_SIZE)))

    assert isinstance(other.error, Refused)


def test_what_was_said_once_lets_nobody_in_again() -> None:
    """Replay: all that a process has said, said again."""
    replayed = exchange(listener(), connector())[1]
    one = listener().feed(replayed)

    assert isinstance(one.error, Refused)


def test_what_a_listener_proves_lets_nobody_connect() -> None:
    """Reflection: a proof is for one role."""
    said = exchange(listener(), connector())
    proof = said[2]
    one = listener().feed(said[1][:-PROOF_SIZE] + proof)

    assert isinstance(one.error, Refused)


def test_what_a_process_says_is_no_answer_to_itself() -> None:
    """A mirror at the other end."""
    one = listener()
    one.feed(one.take())

    assert isinstance(one.error, NotAuthentic)
    assert "sends back what was sent to it" in str(one.error)


def test_a_proof_by_way_of_another_process_is_none() -> None:
    """A process that is led to connect with the wrong one proves nothing to the right one."""
    wanted, led = listener(name="wanted"), connector(looked_for="trap")
    challenge = wanted.take()
    nonce = challenge[len(MAGIC) : len(MAGIC) + NONCE_SIZE]
    led.feed(MAGIC + nonce + b"\x04trap")
    wanted.feed(led.take())

    assert isinstance(wanted.error, Refused)


def test_another_process_at_the_address_is_not_spoken_with() -> None:
    other = connector(looked_for="the one before")
    other.feed(listener().take())

    assert isinstance(other.error, NotAuthentic)
    assert other.take() == b""


@given(st.binary(max_size=2 * BYTES_MAX), st.booleans())
def test_garbage_is_refused_or_waited_on(came: bytes, is_like: bool) -> None:
    """And proves nothing, and is not read further than an authentication goes."""
    for side in (listener(), connector()):
        side.feed(MAGIC + came if is_like else came)

        assert side.name is None
        assert side.wanted <= BYTES_MAX
