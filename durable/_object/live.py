"""A live object, as the code below its activation sees it: invocations, services, hooks."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any, Protocol

from durable._engine.batch import ObjectHandle
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._model.errors import DurableError
from durable._model.ids import ObjectId

from .counters import Counters
from .disk import Disk


class Phase(enum.Enum):
    """Where a live object is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    BROKEN = "broken"
    EVICTED = "evicted"

    @property
    def is_over(self) -> bool:
        return self is Phase.BROKEN or self is Phase.EVICTED


class LiveObject(Protocol):
    """What an event knows of the object that it is for: implemented by `Activation`."""

    __slots__ = ()

    id: ObjectId
    gate: InputGate[Any]
    output: OutputGate
    handle: ObjectHandle
    disk: Disk
    counters: Counters
    instance: Any
    phase: Phase
    cls: type
    pins: int
    services: Any  # `Services`, which knows of live objects

    def deliver(self, event: Any) -> None: ...
    def handle_fetch(self, request: Any) -> Any: ...
    def give_up(self, event: Any, error: DurableError) -> None: ...
    @property
    def open(self) -> Collection[Any]: ...
    def invocation_ended(self, event: Any, error: BaseException | None) -> None: ...
    def pin(self) -> None: ...
    def unpin(self) -> None: ...
    def break_(self, reason: DurableError) -> None: ...
    @property
    def label(self) -> str: ...
    @property
    def marks(self) -> dict[str, str | None]: ...
