"""What all the objects of one runtime share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from attrs import define, field, frozen

from durable._engine.codec import Codec, codec_of
from durable._gates.delivery import Delivery
from durable._gates.futures import PendingAnswer
from durable._gates.output_gate import OutputGate
from durable._loop.loop import Loop
from durable._loop.timers import Timers
from durable._model.clock import Clock
from durable._model.ids import ObjectId
from durable._model.limits import Limits
from durable._model.retention import history_of
from durable._model.websocket import WebSocket
from durable._storage.cache_budget import CacheBudget
from durable._storage.sql_support import SqlSupport

from .counters import Counters
from .disk import Disk
from .hooks import Hooks
from .limit_watch import LimitWatch
from .live import LiveObject

T = TypeVar("T")


@frozen
class ClassFacts:
    """What all objects of one class have in common, found out once for all of them."""

    cls: type
    codec: Codec
    counters: Counters
    # Code of its author runs when an instance is made.
    has_constructor: bool
    has_alarm_handler: bool
    has_timer_handler: bool
    # How long they can go back, in microseconds; None: they keep no history.
    history_us: int | None


@define(eq=False)
class Services:
    """The loop, the disk and the limits, as every activation knows them."""

    loop: Loop
    timers: Timers
    clock: Clock
    limits: Limits
    codec: Codec
    # Where an object is kept, by its base; raises NotOwner where another process has its shard.
    disk_of: Callable[[bytes], Disk]
    # Has a delivery served that was let in: of the executor.
    start: Callable[[Delivery[Any]], None]
    budget: CacheBudget
    sql: SqlSupport
    # The output gate of a new activation; one that asks a lease if the store is owned by one.
    make_output: Callable[[], OutputGate] = OutputGate
    # What authors get as `env`; the classes of other scripts, by number, have others.
    env: Any = None
    envs: dict[int, Any] = field(factory=dict)
    # How long objects can go back, by the number of a class that a configuration gives a history.
    histories: dict[int, int] = field(factory=dict)
    # The objects with a batch on its way, and the handlers of alarms and timers that run.
    commit_watch: LimitWatch = field(init=False)
    alarm_watch: LimitWatch = field(init=False)
    # Called with what happens to the objects; None while nothing observes.
    hooks: Hooks | None = None
    # The activation that was called last.
    latest: LiveObject | None = None
    # Makes the instance of an object, and what it gets as `ctx`.
    construct: Callable[[Any], None] = field(init=False)
    # Whether that runs code of the author of a class.
    has_constructor: Callable[[type], bool] = field(init=False)
    # Keeps a web socket open that code of an object reads itself.
    keep_socket: Callable[[Any, WebSocket], None] = field(init=False)
    # Called when an object has left memory, so that the next call makes it anew.
    on_gone: list[Callable[[Any], None]] = field(factory=list, init=False)
    _codecs: dict[type, Codec] = field(factory=dict, init=False)
    # By the number of the class.
    _facts: dict[int, ClassFacts] = field(factory=dict, init=False)
    # What those above share, by kind: nothing here needs to know them.
    _shared: dict[type, object] = field(factory=dict, init=False)
    # The one activation of an object, made if there is none; set by the directory.
    activation_of: Callable[[ObjectId, type[Any], int], LiveObject] = field(init=False)
    # Sends a call on that has left its sender, since another process has the object by now.
    send_on: Callable[[Any], None] = field(init=False)
    # Rings the alarm of an activation now, or its timer of a name, and returns the ringing, or None
    # if there is none; set by the scheduler, for the test kit and operators.
    ring_now: Callable[[Any, str | None], Awaitable[Any]] = field(init=False)
    # What objects have begun by wait_until, and which of them did; closing gives it time to end.
    works: dict[PendingAnswer[None], bytes] = field(factory=dict, init=False)
    # What the objects of each class have done, by the class's number.
    counters_of_all: dict[int, Counters] = field(factory=dict, init=False)
    # False from the moment the runtime begins to close.
    is_open: bool = True

    def __attrs_post_init__(self) -> None:
        self.commit_watch = LimitWatch(self.timers, self.limits.commit_s_max)
        self.alarm_watch = LimitWatch(self.timers, self.limits.alarm_s_max)

    def facts_of(self, class_number: int, cls: type) -> ClassFacts:
        """The facts of a class, whose code is *cls* now."""
        facts = self._facts.get(class_number)
        if facts is None or facts.cls is not cls:
            facts = self._facts[class_number] = ClassFacts(
                cls,
                self.codec_of(cls),
                self.counters_of(class_number, cls),
                self.has_constructor(cls),
                hasattr(cls, "alarm"),
                hasattr(cls, "timer"),
                self.history_of(cls, class_number),
            )
        return facts

    def codec_of(self, cls: type) -> Codec:
        """The codec of what objects of *cls* store."""
        codec = self._codecs.get(cls)
        if codec is None:
            codec = self._codecs[cls] = codec_of(self.codec, cls)
        return codec

    def history_of(self, cls: type, class_number: int) -> int | None:
        """How long objects of the class can go back, in microseconds; None: they keep no
        history."""
        return self.histories.get(class_number) or history_of(cls)

    def share(self, shared: object) -> None:
        """Let those above that know its kind find *shared*."""
        self._shared[type(shared)] = shared

    def find(self, kind: type[T]) -> T:
        """What was shared of this kind."""
        return cast("T", self._shared[kind])

    def counters_of(self, class_number: int, cls: type) -> Counters:
        """The counters of a class."""
        counters = self.counters_of_all.get(class_number)
        if counters is None:
            counters = self.counters_of_all[class_number] = Counters(cls.__name__)
        return counters
