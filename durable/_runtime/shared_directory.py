"""The directory of one process of a shared store: which objects are here, and the way to others."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from attrs import define, field

from durable._border.channel import Channel, LocalChannel
from durable._border.durable_object import DurableObject
from durable._engine.shards import NotOwner, shard_of
from durable._gates.delivery import CURRENT
from durable._gates.futures import PendingAnswer, when_done
from durable._model.errors import ObjectUnreachable
from durable._model.ids import BASE_SIZE, ObjectId
from durable._object.invocation import Invocation, MethodCall, event_of
from durable._object.services import Services
from durable._shards.lines import Lines
from durable._wire.calls import Target
from durable._wire.channel import RemoteChannel
from durable._wire.crossing import Crossing
from durable._wire.served import Reach

from .class_table import ClassTable
from .crossings import entry_of
from .directory import Directory
from .shard_disks import ShardDisks


@define(eq=False)
class SharedDirectory(Directory):
    """Finds objects wherever they are."""

    disks: ShardDisks = field(init=False)
    lines: Lines = field(init=False)
    crossing: Crossing = field(init=False)

    def lead_by(self, disks: ShardDisks, lines: Lines, crossing: Crossing) -> None:
        """Set what is needed to find objects elsewhere."""
        self.disks, self.lines, self.crossing = disks, lines, crossing
        self.services.send_on = self._send_on

    def channel_of(
        self, object_id: ObjectId, cls: type[DurableObject], class_number: int
    ) -> Channel:
        """A channel to *object_id*, wherever it is."""
        raw = object_id.raw
        shard = shard_of(raw[:BASE_SIZE], self.disks.count)
        # Calls that wait in line, or are under way to another process, come first.
        is_here = shard in self.disks.open and not self.lines.is_used(raw)
        if is_here or (self.disks.is_in_use(shard) and self._is_of_what_runs(shard)):
            return LocalChannel(self.activation_of(object_id, cls, class_number))
        target = Target(class_number, object_id, cls)
        return RemoteChannel(self.crossing, target, self.lines.route(shard, raw, target))

    def _is_of_what_runs(self, shard: int) -> bool:
        """Whether the running code belongs to what a shard that is being given up waits for: an
        event of one of its objects, or one that such an event waits for."""
        event: Invocation[Any] | None = event_of(CURRENT.get())
        while event is not None:
            if self.disks.shard_of(event.activation.id.raw) == shard:
                return True
            event = event_of(event.caller)
        return False

    def _send_on(self, invocation: Invocation[Any]) -> None:
        """Send a call on to another process, since its object is there by now."""
        activation = invocation.activation
        if type(invocation) is not MethodCall:
            invocation.fail(
                ObjectUnreachable(
                    f"{activation.label} moved to another process while the call of "
                    f"{invocation.label}() waited for what its caller had written; the call was "
                    f"not carried out",
                    object_id=str(activation.id),
                )
            )
            return
        args, kwargs = invocation.payload or ((), {})
        number = activation.handle.class_number
        # The call has left its sender: it belongs to no object here.
        answer: Any = Context().run(
            lambda: self.channel_of(activation.id, activation.cls, number).call(
                invocation.label, args, kwargs
            )
        )
        assert isinstance(answer, PendingAnswer)

        def done() -> None:
            if answer.error is None:
                invocation.resolve(answer._value)
            else:
                invocation.fail(answer.error)

        when_done(answer, done)


@define(eq=False)
class ObjectsHere(Reach):
    """The objects of this process, for calls that come from others."""

    disks: ShardDisks
    classes: ClassTable
    services: Services

    def channel_of(self, class_number: int, object_id: ObjectId) -> LocalChannel:
        entry = entry_of(self.classes, class_number)
        is_here = shard_of(object_id.raw[:BASE_SIZE], self.disks.count) in self.disks.open
        # A process that is closing carries out nothing more; the next owner will.
        if not is_here or not self.services.is_open:
            raise NotOwner
        return LocalChannel(entry.activation_of(object_id))
