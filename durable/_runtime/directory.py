"""The directory: the live objects, and which of them are evicted.

At most one activation of an id is in it. The successor of one that broke waits for the batches
that it has on their way to the disk, since it would read the disk too early, and for its code's
clean-up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial

from attrs import define, field

from durable._border.channel import Channel, LocalChannel
from durable._border.durable_object import DurableObject
from durable._engine.batch import ObjectHandle, Woken
from durable._gates.ending import Ending
from durable._model.ids import BASE_SIZE, ObjectId, name_to_keep
from durable._object.activation import Activation
from durable._object.services import Services

from .idle_watch import IdleWatch

# When there are too many live objects, this part of them is evicted at once: finding the least
# recently used ones is a pass over all, too slow to be made for each new object.
EVICTED_AT_ONCE = 1 / 20
# When all objects were busy, a new one causes another search for idle ones only after this time.
ROOM_LOOKED_FOR_S = 1.0


@define
class _Unsettled:
    """What an object's broken activations have left: batches on their way, code that cleans up."""

    # How many of these have not ended yet.
    count: int = 0
    # What begins when all have ended.
    begins: list[Callable[[], None]] = field(factory=list)


@define(eq=False)
class Directory:
    """Finds the activation of an object, and makes it when there is none. Nothing here suspends."""

    services: Services
    activation_class: type[Activation] = Activation
    _activations: dict[bytes, Activation] = field(factory=dict, init=False)
    _idle: IdleWatch = field(init=False)
    # At this number of objects, or at that time of the steady clock, idle ones are sought again.
    _room_wanted_at: int = field(default=0, init=False)
    _room_wanted_s: float = field(default=0.0, init=False)
    # Objects whose broken activations left something behind, and what begins after it.
    _unsettled: dict[bytes, _Unsettled] = field(factory=dict, init=False)
    # The endings of activations that broke, and whose code has not ended yet.
    endings: set[Ending] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._idle = IdleWatch(self.services, self._activations)
        self.services.on_gone.append(self._forget)
        self.services.activation_of = self.activation_of

    def channel_of(
        self, object_id: ObjectId, cls: type[DurableObject], class_number: int
    ) -> Channel:
        """A channel to *object_id*, wherever it is: all are in this process."""
        return LocalChannel(self.activation_of(object_id, cls, class_number))

    def activation_of(
        self, object_id: ObjectId, cls: type[DurableObject], class_number: int
    ) -> Activation:
        """The one activation of *object_id*."""
        raw, services = object_id.raw, self.services
        activation = self._activations.get(raw)
        if activation is not None:
            if object_id.name is not None:
                activation.learn_name(object_id.name)
            return activation
        if len(self._activations) >= services.limits.live_objects_max:
            self._make_room_if_due()
        handle = self._handle(object_id, class_number)
        activation = self.activation_class(object_id, cls, services, handle)
        self._activations[raw] = activation
        if services.hooks is not None:
            services.hooks.watch(activation)
        unsettled = self._unsettled.get(raw)
        if unsettled is not None:
            activation.gate.hold()
            activation.begins_later = []
            unsettled.begins.append(partial(self._open, activation, class_number))
        self._idle.add(activation)
        return activation

    def live(self, object_id: ObjectId) -> Activation | None:
        """The activation of *object_id*, if it is in memory."""
        return self._activations.get(object_id.raw)

    def __iter__(self) -> Iterator[Activation]:
        return iter(list(self._activations.values()))

    def __len__(self) -> int:
        return len(self._activations)

    def _handle(self, object_id: ObjectId, class_number: int) -> ObjectHandle:
        base = object_id.raw[:BASE_SIZE]
        disk = self.services.disk_of(base)
        woken: Woken | None = None
        if disk.wake is None:
            record = disk.engine.find(class_number, base)
        else:
            woken = disk.wake(class_number, base)
            record = None if woken is None else woken.record
        if record is None:
            handle = ObjectHandle(class_number, base, 0, name_to_keep(object_id.name), None, None)
        else:
            handle = ObjectHandle.of(class_number, base, record)
            if handle.name is None:
                handle.name = name_to_keep(object_id.name)
        # Nothing else changes it from here on, so that the first commit need not read it again.
        handle.woken, handle.record = woken, record
        return handle

    def _open(self, activation: Activation, class_number: int) -> None:
        """All that the activation had to wait for has ended: begin."""
        if activation.phase.is_over:
            return  # it broke or was evicted before it began
        activation.begin_at(self._handle(activation.id, class_number))
        activation.gate.release()

    def _forget(self, activation: Activation) -> None:
        raw = activation.id.raw
        if self._activations.get(raw) is activation:
            del self._activations[raw]
        if activation.output.in_flight:
            self._expect(raw)
            activation.disk.when_answered(partial(self._answered, raw, activation))
        ending = activation.gate.ending
        if ending is not None and activation.gate.running:
            self._expect(raw)
            self.endings.add(ending)
            ending.when_over(partial(self._ended, raw, ending))

    def keep_out(self, object_id: ObjectId) -> Callable[[], None] | None:
        """Let no activation of an object begin that is not in memory, until what this returns is
        called. None where there is one, or what was there has writes on their way."""
        raw = object_id.raw
        if raw in self._activations or raw in self._unsettled:
            return None
        self._expect(raw)
        return partial(self._settled, raw)

    def _expect(self, raw: bytes) -> None:
        self._unsettled.setdefault(raw, _Unsettled()).count += 1

    def _answered(self, raw: bytes, activation: Activation) -> None:
        if activation.storage.buffer.is_leaving:  # and was not on its way when this was asked
            activation.disk.when_answered(partial(self._answered, raw, activation))
        else:
            self._settled(raw)

    def _ended(self, raw: bytes, ending: Ending) -> None:
        self.endings.discard(ending)
        self._settled(raw)

    def _settled(self, raw: bytes) -> None:
        unsettled = self._unsettled[raw]
        unsettled.count -= 1
        if not unsettled.count:
            del self._unsettled[raw]
            for begin in unsettled.begins:
                begin()

    # Eviction

    def has_unsettled(self, is_meant: Callable[[bytes], bool] = lambda raw: True) -> bool:
        """Whether broken ones among these objects have left batches on their way, or code that has
        not ended yet."""
        return any(map(is_meant, self._unsettled))

    def _make_room_if_due(self) -> None:
        """Seek idle objects, though not for each new object: where all are busy, the next pass over
        them is due when there are more by a certain part, or after some time."""
        now_s = self.services.clock.steady()
        if len(self._activations) < self._room_wanted_at and now_s < self._room_wanted_s:
            return
        self._make_room()
        is_full = len(self._activations) >= self.services.limits.live_objects_max
        step = max(1, int(len(self._activations) * EVICTED_AT_ONCE)) if is_full else 0
        self._room_wanted_at = len(self._activations) + step
        self._room_wanted_s = now_s + ROOM_LOOKED_FOR_S

    def _make_room(self) -> None:
        """Evict the least recently used of the idle objects: some, and those that are too many."""
        idle = [activation for activation in self._activations.values() if activation.is_idle]
        too_many = len(self._activations) + 1 - self.services.limits.live_objects_max
        count = max(too_many, int(len(self._activations) * EVICTED_AT_ONCE))
        for activation in heapq.nsmallest(
            count, idle, key=lambda activation: activation.idle_since_s
        ):
            activation.evict()
