"""Calls with a key, of which the first alone runs: a repeated one has the first one's result.

What is kept is the result, with what was called, for a day. It is stored in the batch of the turn
in which the method ends, so it is there if and only if the writes of that turn are. A call that
fails is not kept: it may be made again.

Rule: between the look at what is kept and the entry among the calls that run nothing else of the
object runs; so of two calls with one key the second always finds the first, in one place or the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from attrs import define, field, frozen

from durable._engine.codec import decode, encode
from durable._engine.side_records import OWN
from durable._gates.delivery import Delivery
from durable._gates.futures import PendingAnswer
from durable._model.errors import Deadlock, DurableError, ObjectReset, OnceConflict, ResultNotKept
from durable._model.ids import ObjectId
from durable._model.instances import Apart, take_apart
from durable._model.storage_errors import UnstorableValue
from durable._object.activation import Activation
from durable._object.invocation import MethodCall, event_of
from durable._storage.arguments import check_text

from .by_reference import ByReference

KEPT_S: Final = 86_400
KEY_SIZE_MAX: Final = 255
DIGEST_SIZE: Final = 16
PREFIX: Final = OWN + b"once "
# Old results that a call frees: more than it adds, and few, since their values are read for it.
FREED_AT_ONCE: Final = 4

# Keys begin with the day, so that what is to go is a range. The clock may have been set since a
# result was kept: so it is looked for in the day after this one, too.
DAYS_LOOKED_INTO: Final = (0, -1, 1)


@frozen
class Kept:
    """What is kept of a call that has ended."""

    made_us: int
    digest: bytes
    # The result as the object's codec wrote it, or why it could not be written.
    result: bytes | str

    @property
    def fields(self) -> list[Any]:
        return [self.made_us, self.digest, self.result]


@define(eq=False)
class CallsOnce:
    """The calls with a key that run now, of all objects."""

    running: dict[tuple[Activation, str], OnceCall] = field(factory=dict)


class OnceCall(MethodCall[Any]):
    """The call of a method with a key."""

    __slots__ = ("digest", "key", "result")

    activation: Activation
    key: str
    digest: bytes
    # Of a call that is the first, while it runs: where those wait that repeat it.
    result: PendingAnswer[Kept] | None

    async def _call(self) -> Any:
        activation, key = self.activation, self.key
        kept = self._look()
        if kept is not None:
            return self._repeated(kept)
        running = activation.services.find(CallsOnce).running
        first = running.get((activation, key))
        if first is not None:
            return await self._wait_for(first)
        running[activation, key] = self
        self.result = PendingAnswer(activation.services.loop)
        value = super()._call()
        return await value if hasattr(value, "__await__") else value

    def _look(self) -> Kept | None:
        """What is kept of the call of this key."""
        now_s = self.activation.services.clock.now()
        today = int(now_s // KEPT_S)
        for offset in DAYS_LOOKED_INTO:
            stored = self.activation.storage.sides.get(_day(today + offset) + self.key.encode())
            if stored is not None:
                kept = Kept(*decode(stored))
                if now_s - kept.made_us / 1e6 < KEPT_S:
                    return kept
        return None

    def _repeated(self, kept: Kept) -> Any:
        self._check_same(kept.digest)
        if isinstance(kept.result, str):
            raise ResultNotKept(kept.result)
        activation = self.activation
        return activation.services.codec_of(activation.cls).decode(kept.result)

    async def _wait_for(self, first: OnceCall) -> Any:
        self._check_same(first.digest)
        assert first.result is not None
        caller = event_of(self.caller)
        while caller is not None and caller is not first:
            caller = event_of(caller.caller)
        if caller is first:
            object_id = str(self.activation.id)
            label = self.activation.label
            raise Deadlock(
                (object_id, object_id),
                (label, label),
                f"this call would wait for ever: {self.label}() of {label} with once={self.key!r} "
                f"leads to itself. Give the inner call a key of its own",
            )
        return self._repeated(await first.result)

    def _check_same(self, digest: bytes) -> None:
        if digest != self.digest:
            raise OnceConflict(
                f"once={self.key!r} was given with another call of {self.activation.label} within "
                f"the last day: of another method than {self.label}(), or with other arguments. "
                f"Give each call that is to happen a key of its own"
            )

    @property
    def _is_first(self) -> bool:
        return getattr(self, "result", None) is not None

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        if self._is_first and self.gate.broken is None:
            self._no_longer_runs()
            result, self.result = self.result, None
            assert result is not None
            if error is None:
                kept = self._keep(value)
                if isinstance(kept.result, str):
                    error = ResultNotKept(kept.result)
                result.resolve(kept)
            else:
                result.fail(self._for_another(error))
        return super().end(value, error)

    def _keep(self, value: Any) -> Kept:
        """Keep the result, beside what the method has written."""
        activation = self.activation
        services = activation.services
        result: bytes | str
        try:
            result = services.codec_of(activation.cls).encode(value)
            size, size_max = len(result), services.limits.value_size_max
            if size > size_max:
                result = f"it takes {size:,} bytes, and a value may take {size_max:,}"
        except Exception as error:
            result = str(error)
        if isinstance(result, str):
            # The method has run: to run it once more would be worse than to have no result.
            result = (
                f"the result of {self.label}() of {activation.label} cannot be kept for "
                f"once={self.key!r}, which it is refused for; the call was made, and is not made "
                f"again. What is wrong with the result: {result}"
            )
        now_s = services.clock.now()
        kept = Kept(int(now_s * 1e6), self.digest, result)
        sides, today = activation.storage.sides, int(now_s // KEPT_S)
        sides.put(_day(today) + self.key.encode(), encode(kept.fields))
        for old, _ in sides.scan(PREFIX, _day(today - 1), count_max=FREED_AT_ONCE):
            sides.delete(old)
        return kept

    def _for_another(self, error: BaseException) -> BaseException:
        """What a caller gets that has waited for this call, which failed."""
        if isinstance(error, DurableError):
            return error.again()
        if isinstance(error, Exception):
            return error
        return ObjectReset(
            f"{self.label}() of {self.activation.label} with once={self.key!r} was broken off",
            retryable=True,
            reset=False,
            object_id=str(self.activation.id),
        )

    def fail(self, error: BaseException) -> None:
        if self._is_first:
            self._no_longer_runs()
        super().fail(error)

    def _no_longer_runs(self) -> None:
        running = self.activation.services.find(CallsOnce).running
        if running.get((self.activation, self.key)) is self:
            del running[self.activation, self.key]


def _day(day: int) -> bytes:
    """What the keys of a day begin with. Days sort as text up to the year 275,760."""
    return PREFIX + b"%08d " % max(day, 0)


def check_once(key: Any) -> str:
    """A key as `once=` takes it. TypeError, ValueError."""
    if not isinstance(key, str):
        raise TypeError(f"once takes a str that names the call, not {type(key).__name__}")
    size = len(check_text(key, "key of a call").encode())
    if not 1 <= size <= KEY_SIZE_MAX:
        raise ValueError(
            f"once takes a str of 1 to {KEY_SIZE_MAX} bytes of UTF-8, not of {size:,}; a uuid4() "
            f"made by the first caller will do"
        )
    return str.__str__(key)


def digest_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], encode: Callable[[Any], bytes]
) -> bytes:
    """Identifies a call, also in another process: equal for equal arguments, whatever the order of
    dicts and sets. UnstorableValue for what cannot be identified later."""
    return _digest((name, args, kwargs), encode)


def _digest(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    if isinstance(value, dict):
        pairs = [_digest(key, encode) + _digest(each, encode) for key, each in value.items()]
        return _hashed(b"dict", *sorted(pairs))
    if isinstance(value, set | frozenset):
        return _hashed(b"set", *sorted(_digest(each, encode) for each in value))
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:
        return _hashed(b"list", *(_digest(each, encode) for each in value))
    id = getattr(value, "id", None) if isinstance(value, ByReference) else value
    if isinstance(id, ObjectId):  # of a stub, or one itself
        return _hashed(b"id", id.raw)
    apart = take_apart(value)
    if isinstance(apart, Apart):
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}".encode()
        return _hashed(b"instance", name, _digest(apart.parts, encode))
    try:
        return _hashed(b"value", encode(value))
    except UnstorableValue as error:
        error.add_note(
            "With once= all arguments must be values that can be stored, so that a repeated call "
            "can be recognized"
        )
        raise


def _hashed(kind: bytes, *parts: bytes) -> bytes:
    hashed = blake2b(kind, digest_size=DIGEST_SIZE)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()
