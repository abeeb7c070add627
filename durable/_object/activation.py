"""The activation: keeper of one live object, from its first invocation until it is evicted or
broken.

It is put together here. What it does has a file for each idea, one above the other: `named` says
what it is called, `commits` what becomes of its writes, `lifecycle` how it begins and ends,
`admission` what it lets in. They are one Python object, since an idle one has 3 KiB in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from durable._engine.batch import ObjectHandle
from durable._gates.critical_section import Sections
from durable._gates.delivery import CURRENT
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._model.errors import NoSuchMethod
from durable._model.ids import ObjectId
from durable._model.messages import Request
from durable._model.websocket import WebSocket
from durable._storage.object_storage import ObjectStorage
from durable._storage.records import Records
from durable._storage.watched_queries import EndedQuery

from .admission import Admission
from .counters import Counters
from .disk import Disk
from .invocation import Invocation
from .live import Phase
from .services import ClassFacts, Services

if TYPE_CHECKING:
    from durable._storage.sql.sql import Sql


class Activation(Admission):
    """One live object: its gates, its storage, and the author's instance."""

    __slots__ = ()

    gate_class: ClassVar[type[InputGate[Any]]] = InputGate

    # As the classes below declare them; set here.
    gate: InputGate[Any]
    output: OutputGate
    sections: Sections
    handle: ObjectHandle
    storage: ObjectStorage
    state: Any
    facts: ClassFacts
    counters: Counters
    instance: Any
    idle_since_s: float
    disk: Disk
    watched_seqno: int | None
    begins_later: list[Callable[[], None]] | None

    def __init__(
        self, object_id: ObjectId, cls: type, services: Services, handle: ObjectHandle
    ) -> None:
        self.id = object_id
        self.cls = cls
        self.services = services
        self.output = services.make_output()
        self.gate = self.gate_class(services.loop, self.output, self, services.start)
        self.sections = Sections(self.gate, services.timers, services.limits)
        self.handle = handle
        self.disk = services.disk_of(handle.base)
        self.facts = facts = services.facts_of(handle.class_number, cls)
        self.counters = facts.counters
        self.storage = self._make_storage(handle)
        self.state = None
        self.instance = None
        self.phase = Phase.NEW
        self.is_gone = False
        self._open = None
        self.pins = 0
        self.idle_since_s = services.clock.steady()
        self.watched_seqno = None
        self.is_held_for_room = False
        self.begins_later = None

    def _make_storage(self, handle: ObjectHandle) -> ObjectStorage:
        services, disk, facts = self.services, self.disk, self.facts
        return ObjectStorage(
            handle=handle,
            reads=disk.reads,
            submit=disk.submit,
            next_keyspace=disk.next_keyspace,
            gate=self.gate,
            output=self.output,
            codec=facts.codec,
            limits=services.limits,
            clock=services.clock,
            budget=services.budget,
            sections=self.sections,
            owner=self,
            has_alarm_handler=facts.has_alarm_handler,
            has_timer_handler=facts.has_timer_handler,
            history_us=facts.history_us if disk.engine.keeps_histories else None,
        )

    def open_sql(self, records: Records) -> Sql:
        return self.services.sql.open(records, self.queried)

    def queried(self, query: EndedQuery) -> None:
        """A query of SQL has ended, and queries are watched."""
        counters = self.counters
        counters.queries += 1
        counters.rows_read += query.rows_read
        counters.rows_written += query.rows_written
        counters.query_s += query.duration_s
        if self.services.hooks is not None:
            self.services.hooks.queried(self, query)

    def begin_at(self, handle: ObjectHandle) -> None:
        """Begin with what the disk holds now; it was not yet all there when the activation was
        made."""
        assert self.phase is Phase.NEW or self.phase is Phase.STARTING
        self.handle = handle
        self.storage = self._make_storage(handle)
        callbacks, self.begins_later = self.begins_later or (), None
        for callback in callbacks:
            callback()

    def handle_fetch(self, request: Request) -> Any:
        """Run the author's `fetch`."""
        handler = getattr(self.instance, "fetch", None)
        if handler is None:
            raise NoSuchMethod(
                f"{self.cls.__name__} has no fetch() handler; define `async def fetch(self, "
                f"request)`, or call one of its methods",
                object_id=str(self.id),
            )
        return handler(request)

    def keep_for(self, ws: WebSocket) -> None:
        """Code of the object has accepted *ws* to read it itself."""
        self.services.keep_socket(self, ws)

    def __repr__(self) -> str:
        return f"<Activation {self.label} {self.phase.value}, {self.gate!r}, {self.output!r}>"


def sending_activation() -> Activation | None:
    """The activation of the object whose code runs, or None for the program's own."""
    delivery = CURRENT.get()
    while delivery is not None and not isinstance(delivery, Invocation):
        delivery = delivery.parent
    return cast("Activation", delivery.activation) if delivery is not None else None
