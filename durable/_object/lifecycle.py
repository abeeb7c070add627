"""The life of an object in memory: NEW, STARTING, RUNNING, then EVICTED or BROKEN.

It lives once: the next invocation after its end finds a new activation. What a broken object leaves
behind: its callers get the reason; its code may clean up, and can do nothing else; batches already
submitted still commit; unsubmitted writes are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import copy_context
from typing import Any

from durable._gates.critical_section import Sections
from durable._gates.delivery import CURRENT
from durable._loop.loop import INTERRUPTS
from durable._model.errors import DurableError, ObjectAborted, ObjectReset
from durable._model.log import log

from .commits import Commits
from .counters import Counters
from .invocation import Construction, Invocation
from .live import Phase
from .reasons import reset_by
from .services import ClassFacts


class Lifecycle(Commits):
    """How a live object begins, and the two ways in which it ends."""

    __slots__ = (
        "_open",
        "begins_later",
        "counters",
        "disk",
        "facts",
        "idle_since_s",
        "instance",
        "is_gone",
        "look_s",
        "pins",
        "sections",
        "state",
    )

    phase: Phase
    # Another channel leads to the object now: it was evicted, or its shard is being given up.
    is_gone: bool
    sections: Sections
    state: Any
    facts: ClassFacts
    counters: Counters
    instance: Any
    # Invocations that have no answer yet; None rather than empty, to keep an idle object small.
    # A single one stands by itself: a busy store has thousands of sets less by that.
    _open: Invocation[Any] | set[Invocation[Any]] | None
    # What else keeps the object in memory: sockets, functions given away, wait_until.
    pins: int
    idle_since_s: float
    # When the idle watch looks at it next, by the time of the timers.
    look_s: float
    # What waits for the writes of a predecessor to be on disk; None if there are none.
    begins_later: list[Callable[[], None]] | None

    @property
    def open(self) -> Collection[Invocation[Any]]:
        """The invocations that have no answer yet."""
        unanswered = self._open
        if unanswered is None:
            return ()
        return unanswered if isinstance(unanswered, set) else (unanswered,)

    # Starting

    def _construct_first(self) -> None:
        """Put the constructor at the head of the line. Where nothing of it may wait or is seen, it
        needs no delivery."""
        self.phase = Phase.STARTING
        if not (self.facts.has_constructor or self.handle.history or self.gate.is_held):
            self._construct()
            return
        construct = Construction(self, self._construct, copy_context(), "constructor", None)
        if self.gate.enter_nowait(construct):
            self.services.start(construct)
        else:
            construct.came_s = self.services.clock.steady()
            self.gate.queue(construct)  # its predecessor's writes are still on their way

    def _construct(self) -> None:
        services = self.services
        hooks = services.hooks
        began_s = 0.0 if hooks is None else services.clock.steady()
        self.storage.constructing = True
        try:
            if self.handle.history:
                self.storage.go_back()
            services.construct(self)
        except BaseException as error:
            if isinstance(error, INTERRUPTS):
                services.loop.raise_in_program(error)
            self.fail(error)
            return
        finally:
            self.storage.constructing = False
        self.counters.woken += 1
        if self.phase is Phase.STARTING:  # it may have called abort()
            self.phase = Phase.RUNNING
        if hooks is not None and self.phase is not Phase.BROKEN:
            hooks.woken(self, services.clock.steady() - began_s)

    def when_open(self, callback: Callable[[], None]) -> None:
        """Call back when what its predecessor wrote is on disk: at once, as a rule."""
        if self.begins_later is None:
            callback()
        else:
            self.begins_later.append(callback)

    # The end

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and nothing but memory would be lost by eviction."""
        gate = self.gate
        return (
            self._open is None
            and not self.pins
            and not gate.running
            and gate.holder is None
            and not gate.queued
            and not gate.sections
            and not self.output.in_flight
            and not self.output.has_unsealed
        )

    def finish_turns(self) -> None:
        """The runtime closes: writes that are not yet sealed become a batch now."""
        if self.output.has_unsealed and self.gate.broken is None:
            self.storage.seal()

    def evict(self) -> None:
        """Forget an idle object; the next invocation builds it anew."""
        assert self._open is None  # who evicts it has just seen that it is idle
        self.phase = Phase.EVICTED
        self.is_gone = True
        self.counters.evicted += 1
        # For a callback or a thread that still has something of the object in its hands.
        self.gate.shut_out(
            ObjectReset(
                "Durable Object was evicted from memory; it is built anew for the next call",
                retryable=True,
                object_id=str(self.id),
            )
        )
        self._gone()
        if self.services.hooks is not None:
            self.services.hooks.evicted(self)

    def abort(self, reason: str | None, *, retry_alarm: bool) -> BaseException:
        """Break the object at its own wish; returns what to raise."""
        delivery = CURRENT.get()
        while delivery is not None and delivery.parent is not None:
            delivery = delivery.parent
        if isinstance(delivery, Invocation) and delivery.activation is self:
            delivery.blame(gives_up=not retry_alarm)
        text = "Application called abort() to reset Durable Object." if reason is None else reason
        aborted = ObjectAborted(str(text))
        self.break_(aborted)
        return self.gate.stopped()

    def fail(self, error: BaseException) -> None:
        """Reset the object because of what its own code raised in a section or the constructor, or
        of a damaged value that it has read."""
        if self.phase is Phase.RUNNING:
            for invocation in self.open:
                if invocation.tasks:
                    invocation.blame()
        self.break_(reset_by(error))

    def break_(self, reason: DurableError) -> None:
        """Reset the object: the callers that wait for it get *reason*, and so do later calls of
        this activation."""
        if self.gate.broken is not None:
            return
        reason.object_id = str(self.id)
        self.phase = Phase.BROKEN
        self.counters.errors += len(self.open)
        if self.services.is_open:
            self.counters.broken += 1
            log.warning("%s was reset: %s", self.label, reason, extra=self.marks)
        self.gate.break_(reason, self.label)
        unheard = self.output.drop_waiting()
        # Before any caller hears of it: one that calls the object again at once has to find a new
        # activation.
        self._gone()
        invocations = list(self.open)
        for invocation in invocations:
            invocation.fail(reason.again())
        for message in unheard:
            message.fail(reason.again())
        self._open = None
        if self.services.hooks is not None:
            self.services.hooks.broke(self, reason, invocations)
        assert self.gate.ending is not None
        self.gate.ending.begin()

    def _gone(self) -> None:
        self.instance = None  # a stub may keep this activation for long
        if self.watched_seqno is not None:
            self.services.commit_watch.discard(self)
        if self.services.latest is self:
            self.services.latest = None
        try:
            self.storage.discard()
        except Exception:  # as below
            log.exception("what %s had in memory could not be given up", self.label)
        for notify in self.services.on_gone:
            try:
                notify(self)
            except Exception:  # the callers that wait for this object must still hear of it
                log.exception("a callback for the end of %s failed", self.label)

    def pin(self) -> None:
        """Stay in memory, idle or not, until `unpin`."""
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1
        self.idle_since_s = self.services.clock.steady()
