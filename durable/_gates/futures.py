"""Answers: what a storage call and a stub call return.

The call has acted by the time its answer is there. An answer may be awaited, more than once, or
dropped. It is a `collections.abc.Coroutine` in all but name, so that `asyncio.create_task`,
`gather`, task groups and nurseries take it as they take the coroutine of an async function.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from durable._loop.loop import INTERRUPTS
from durable._model.errors import WrongLoop
from durable._model.log import log

if TYPE_CHECKING:
    from durable._loop.loop import Loop, Waker

T = TypeVar("T")


# Awaitable by its methods when it runs: an instance of an ABC takes half as long again to make.
if TYPE_CHECKING:
    from collections.abc import Awaitable as _Awaitable
else:
    _Awaitable = Generic


class Answer(_Awaitable[T]):
    """The result of a call that has been made: await it, or drop it."""

    __slots__ = ("_steps",)

    _steps: Generator[Any, Any, T]

    @property
    def is_done(self) -> bool:
        """Whether it is there, so that awaiting it does not wait."""
        return True

    def send(self, value: Any) -> Any:
        try:
            steps = self._steps
        except AttributeError:
            steps = self._steps = self.__await__()
        try:
            return steps.send(value)
        except BaseException:
            del self._steps  # the next `await` begins anew
            raise

    def throw(self, *error: Any) -> Any:
        try:
            steps = self._steps
        except AttributeError:
            raise error[0] from None
        try:
            return steps.throw(*error)
        except BaseException:
            del self._steps  # as above
            raise
        finally:
            # The traceback holds this frame, which holds the answer and the error.
            del self, error

    def close(self) -> None:
        try:
            steps = self._steps
        except AttributeError:
            return
        del self._steps
        steps.close()


class FoundAnswer(Answer[T]):
    """An answer whose value is set as soon as it is made; awaiting it never suspends.

    For what a program does most often, to read a value that is in memory: a constructor that takes
    the value would be a tenth of that.
    """

    __slots__ = ("_value",)

    _value: T

    def __await__(self) -> Generator[Any, Any, T]:
        return self._value
        yield

    def __repr__(self) -> str:
        return f"<answer {self._value!r}>"


class ReadyAnswer(FoundAnswer[T]):
    """An answer that is there already."""

    __slots__ = ()

    def __init__(self, value: T) -> None:
        self._value = value


class PendingAnswer(Answer[T]):
    """An answer that comes: `resolve` or `fail` it once; the tasks that wait for it are woken."""

    __slots__ = ("_error", "_is_done", "_loop", "_value", "_waiting")

    _value: T

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._is_done = False
        self._error: BaseException | None = None
        # One waker as a rule, a list if more wait: a busy store has thousands of answers under way,
        # and the garbage collector walks over all that they are made of.
        self._waiting: Waker | _Wakers | None = None

    @property
    def is_done(self) -> bool:
        return self._is_done

    @property
    def error(self) -> BaseException | None:
        return self._error

    def resolve(self, value: T) -> None:
        """Give the answer; what comes after the first one is not heard."""
        if not self._is_done:
            self._is_done = True
            self._value = value
            waiting = self._waiting
            if waiting is not None:
                self._waiting = None
                waiting.wake()

    def fail(self, error: BaseException) -> None:
        """Raise *error* in the code that awaits the answer."""
        if not self._is_done:
            self._is_done = True
            self._error = error
            waiting = self._waiting
            if waiting is not None:
                self._waiting = None
                waiting.wake()

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for it, which gets the error if it fails."""
        return any(type(waker) is not _Callback for waker in _waiting_at(self))

    def _add(self, waker: Waker) -> None:
        if self._waiting is None:
            self._waiting = waker
        elif isinstance(self._waiting, list):
            self._waiting.append(waker)
        else:
            self._waiting = _Wakers((self._waiting, waker))

    def _drop(self, waker: Waker) -> None:
        if self._waiting is waker:
            self._waiting = None
        elif isinstance(self._waiting, list) and waker in self._waiting:
            self._waiting.remove(waker)

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._is_done:
            waker = self._loop.waker()
            self._add(waker)
            try:
                trap = waker.trap()
                if trap is None:
                    yield from waker.__await__()
                else:
                    yield trap
            except BaseException as error:
                self._drop(waker)
                if self._is_of_other_loop(error):
                    raise WrongLoop("the answer") from None
                raise
        if self._error is not None:
            self._raise()
        return self._value

    def _is_of_other_loop(self, error: BaseException) -> bool:
        """Whether *error* means that the running loop cannot wait for this answer's loop."""
        if not isinstance(error, RuntimeError | TypeError):
            return False
        # One backend's loop may run inside of the other's, which then takes itself to be here.
        return not self._loop.is_here() or _is_unknown_to_backend(error)

    def _raise(self) -> NoReturn:
        assert self._error is not None
        if isinstance(self._error, INTERRUPTS):
            self._loop.withdraw(self._error)
        try:
            raise self._error
        finally:
            # The traceback holds this frame, which holds the answer, which holds the error.
            del self


def _is_unknown_to_backend(error: RuntimeError | TypeError) -> bool:
    """Whether asyncio or Trio refuses what it cannot be waiting for, as it does by its text."""
    return "got bad yield" in str(error) or "unrecognized yield message" in str(error)


def when_done(answer: PendingAnswer[T], callback: Callable[[], None]) -> None:
    """Call back when the answer has come, on the loop's thread."""
    if answer._is_done:
        callback()
    else:
        # Not the subclass's: a callback is not an await.
        PendingAnswer._add(answer, _Callback(callback))


async def wait_done(answer: PendingAnswer[Any]) -> None:
    """Return when the answer has come, whatever it is: an error is not raised."""
    waker = answer._loop.waker()
    when_done(answer, waker.wake)
    await waker


def when_awaited(answer: PendingAnswer[Any], callback: Callable[[], None]) -> None:
    """Call back, once, when code begins to await *answer*, or adds a callback to it."""
    waiting = answer._waiting
    if not isinstance(waiting, _Announcing):
        answer._waiting = waiting = _Announcing(_waiting_at(answer))
    waiting.callbacks.append(callback)


def wakers_of(answer: PendingAnswer[Any]) -> list[Waker]:
    """Those of the tasks that await *answer* now."""
    every = _waiting_at(answer)
    return [waker for waker in every if not (isinstance(waker, _Callback) or waker.done())]


def _waiting_at(answer: PendingAnswer[Any]) -> list[Waker]:
    """All that wait for *answer*, callbacks too."""
    waiting = answer._waiting
    return waiting if isinstance(waiting, list) else [] if waiting is None else [waiting]


class _Wakers(list["Waker"]):
    """Several that wait for one answer."""

    __slots__ = ()

    def wake(self) -> None:
        for waker in self:
            waker.wake()


class _Announcing(_Wakers):
    """The waiters of an answer, with callbacks for when there are more.

    In place of a plain list, so that other answers do not pay for it.
    """

    __slots__ = ("callbacks",)

    def __init__(self, waiting: list[Waker]) -> None:
        super().__init__(waiting)
        self.callbacks: list[Callable[[], None]] = []

    def append(self, waker: Waker) -> None:
        super().append(waker)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


class _Callback:
    """Takes the place of a waiting task."""

    __slots__ = ("_callback", "_is_done")

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def wake(self) -> None:
        self._is_done = True
        try:
            self._callback()
        except Exception:  # which must not keep the others from the answer
            log.exception("a callback of an answer failed: %r", self._callback)

    def trap(self) -> NoReturn:
        raise AssertionError("a callback is not awaited")

    __await__ = trap
