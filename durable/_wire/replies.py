"""How the calls that came over one link are answered: a value, a failure, or sent back."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from durable._engine.codec import encode
from durable._engine.shards import NotOwner
from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._model.errors import DurableError, InternalError, UnknownClass
from durable._model.log import log
from durable._model.messages import Request
from durable._object.activation import Activation

from .crossing import Crossing, check_size
from .failures import to_failure
from .frames import Kind, pack
from .link import Link
from .things import LinkThings, Written


@define(eq=False)
class Replies:
    """The answers to what the other side of one link has called, by the numbers of the calls."""

    link: Link
    crossing: Crossing
    _things: LinkThings
    # The requests of the calls of `fetch` that have no answer yet.
    requests: dict[int, Request] = field(factory=dict, init=False)

    def write(
        self, class_number: int, what: str, value: Any, activation: Activation | None
    ) -> bytes | Written:
        """*value* as bytes. Raises UnstorableValue, MessageTooLarge."""
        written = self.crossing.writer_of(class_number).write(value, activation)
        return check_size(self.crossing, what, written)

    def answer(self, number: int, written: bytes | Written) -> None:
        """Send the caller of *number* a value."""
        if type(written) is not bytes:
            written = self._things.sent(written)
        self.link.connection.send(pack(Kind.ANSWER, number, written))

    def fail(self, number: int, class_number: int, error: BaseException) -> None:
        """Send the caller of *number* an error."""
        try:
            failure = to_failure(error, self.crossing.writer_of(class_number).plain)
        except UnknownClass:  # which is itself the error to send
            failure = to_failure(error, encode)
        self.link.send(Kind.FAIL, number, failure)

    def pass_on(self, number: int, class_number: int, answer: Answer[Any]) -> None:
        """Answer the call *number* with the result of *answer*, when it comes."""
        assert isinstance(answer, PendingAnswer)

        def done() -> None:
            if answer.error is not None:
                self.fail(number, class_number, answer.error)
                return
            try:
                what = "what the call returns"
                written = self.write(class_number, what, answer._value, None)
            except DurableError as error:
                self.fail(number, class_number, error)
            else:
                self.answer(number, written)

        when_done(answer, done)

    def refuse(self, number: int, class_number: int, error: Exception) -> None:
        """The call *number* cannot be delivered."""
        if isinstance(error, NotOwner):
            self.link.send(Kind.MOVED, number)
            return
        if not isinstance(error, DurableError):
            log.error("a call from another process could not be delivered", exc_info=error)
            error = InternalError(f"the call could not be delivered: {error!r}")
        self.fail(number, class_number, error)
