"""`ctx`: an object's own view of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from durable._gates.futures import Answer, PendingAnswer
from durable._gates.input_gate import InputGate
from durable._gates.refusing import refusing
from durable._model.errors import WrongLoop
from durable._model.ids import ObjectId
from durable._model.websocket import WebSocket
from durable._object.activation import Activation
from durable._object.background import wait_until
from durable._storage.arguments import to_datetime
from durable._storage.storage import Storage
from durable._storage.timers import Timers

from .sockets import answered_at, sockets_of, tags_of

T = TypeVar("T")


class State:
    """What an object can ask about itself, and do to itself."""

    __slots__ = {
        "_activation": "",
        "__weakref__": "",
        "storage": "What the object remembers when it is not in memory.",
    }

    # No property, unlike the others: almost each call of each object asks for it. So only a type
    # checker refuses to set it.
    storage: Final[Storage]

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.storage = activation.storage.storage

    @property
    def _gate(self) -> InputGate[Any]:
        return self._activation.gate

    @property
    def id(self) -> ObjectId:
        """Which object this is. Its `name` is the one it was ever addressed by, up to 1,024 bytes
        of UTF-8, however it was reached this time; None if there is none."""
        activation = self._activation
        name = activation.handle.name
        return activation.id if activation.id.name == name else ObjectId(activation.id.raw, name)

    @property
    def timers(self) -> Timers:
        """The object's timers: many alarms, each with a name, a payload and perhaps a schedule."""
        return self._activation.storage.timers

    @property
    def env(self) -> Any:
        """The bindings and variables, as the constructor gets them."""
        services = self._activation.services
        return services.envs.get(self._activation.handle.class_number, services.env)

    def now(self) -> datetime:
        """The time of the runtime's clock, in UTC: what alarms go by, and a test turns."""
        return to_datetime(round(self._activation.services.clock.now() * 1_000_000))

    @refusing
    def block_concurrency_while(self, async_fn: Callable[[], Awaitable[T]]) -> Answer[T]:
        """Run `async_fn()` alone: from this call on nothing else is delivered until it has ended.

        It starts when the current turn ends. What it starts itself, it can wait for; sections nest,
        up to `Limits.critical_section_depth_max` deep, beyond which this raises DurableError. Code
        after an await of the answer runs before any other event. If it raises, or takes more than
        `Limits.critical_section_s_max` seconds, the object is reset, and its callers get the error.
        (As Cloudflare's `blockConcurrencyWhile`.)
        """
        if not callable(async_fn):
            raise TypeError(
                f"block_concurrency_while() takes an async function, not {async_fn!r}; give it "
                f"the function itself, without calling it"
            )
        return self._activation.sections.run(async_fn, resets=True)

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Run *awaitable* to its end beside the event; the object stays in memory meanwhile.

        If it raises, that is logged and has no other effect. Closing the runtime gives it
        `Limits.shutdown_s_max` seconds to end, unless the object reads web sockets itself.
        """
        wait_until(self._activation, awaitable)

    def abort(self, reason: str | None = None, *, retry_alarm: bool = True) -> NoReturn:
        """Reset the object now: writes of this turn are dropped, the memory is discarded.

        Calls in flight and later calls on old stubs get ObjectAborted. Here, and wherever code of
        the object waits, something is raised that `except Exception` does not catch: the code may
        clean up, while its storage, stubs and sockets refuse. In `alarm()` it counts as a failure,
        after which the alarm is retried; *retry_alarm* False gives that alarm up.
        """
        if not self._activation.services.loop.is_here():
            raise WrongLoop(repr(self))
        raise self._activation.abort(reason, retry_alarm=retry_alarm)

    @refusing
    def confirmed(self) -> Answer[None]:
        """An answer that comes when every write made so far, but for those with
        `allow_unconfirmed`, is on disk.

        Await it before sending anything by a way that the runtime does not see, such as
        an HTTP client. If a write fails the object is reset, and the code here does not go on.
        """
        activation = self._activation
        activation.gate.check_loop()
        answer: PendingAnswer[None] = PendingAnswer(activation.services.loop)
        activation.output.when_durable(activation.output.seqno(), lambda: answer.resolve(None))
        return answer

    def accept_websocket(self, ws: WebSocket, tags: Iterable[str] = ()) -> None:
        """Keep *ws*, and let `websocket_message`, `websocket_close` and `websocket_error` have what
        arrives at it. The object may be evicted meanwhile; the next message builds it anew.

        Raises DurableError if the socket or its pair is in use already, ValueError for too many or
        too long tags, TooManyWebSockets.
        """
        self._activation.gate.check_loop()
        sockets_of(self._activation).accept(ws, tags)

    def get_websockets(self, tag: str | None = None) -> list[WebSocket]:
        """The accepted sockets, the last one first; with *tag* those that have it, in order."""
        return sockets_of(self._activation).all(tag)

    def broadcast(
        self,
        message: str | bytes,
        *,
        tag: str | None = None,
        without: WebSocket | Iterable[WebSocket] = (),
    ) -> int:
        """Send *message* to the accepted sockets that are open, or to those with *tag*, but for
        those in *without*; returns to how many.

        As `send` of each of them does, though it goes through the gates once: it acts at the call,
        and leaves when what the object wrote before it is on disk. It waits for no slow peer: one
        with more than 16 MiB unread is closed. Those that are closing, or have closed, are passed
        over. Raises TypeError and ValueError as `send` does, then nothing was sent.
        """
        self._activation.gate.check()
        return sockets_of(self._activation).broadcast(message, tag, without)

    def get_tags(self, ws: WebSocket) -> list[str]:
        """The tags that *ws* was accepted with, also after it has closed."""
        return tags_of(ws)

    def set_websocket_auto_response(
        self, request: str | None = None, response: str | None = None
    ) -> None:
        """Answer each message that is exactly *request* with *response*, without waking the object
        or waiting for its writes; None clears it. ValueError if one is too long."""
        self._activation.gate.check_loop()
        sockets_of(self._activation).set_auto_response(request, response)

    def get_websocket_auto_response(self) -> tuple[str, str] | None:
        """The request and the response that are set, or None."""
        return sockets_of(self._activation).auto_response

    def get_websocket_auto_response_timestamp(self, ws: WebSocket) -> datetime | None:
        """When *ws* was last sent the auto-response, in UTC; None if it never was."""
        return answered_at(ws)

    def __repr__(self) -> str:
        return f"<State of {self._activation.label}>"
