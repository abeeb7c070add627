"""What all the objects of one runtime share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from durable._disk.batch import Batch
from durable._disk.codec import Codec
from durable._disk.reads import Reads
from durable._gates.answers import Later
from durable._gates.delivery import Delivery
from durable._loop.loop import Loop
from durable._loop.timers import Timers
from durable._model.clock import Clock
from durable._model.ids import ObjectId
from durable._model.limits import Limits
from durable._storage.cache_budget import CacheBudget

from .tally import Tally

if TYPE_CHECKING:
    from .host import Host
    from .observed import Observers
    from .sockets import Sockets


@define(eq=False)
class Services:
    """The loop, the disk and the limits, as every host knows them."""

    loop: Loop
    timers: Timers
    clock: Clock
    limits: Limits
    codec: Codec
    reads: Reads
    submit: Callable[[Batch], None]
    next_number: Callable[[], int]
    # Has a delivery served that was let in: of the crew.
    start: Callable[[Delivery[Any]], None]
    # Calls back when all batches submitted so far are on disk or have failed.
    when_answered: Callable[[Callable[[], None]], None]
    budget: CacheBudget
    # What authors get as `env`; the classes of other scripts, by number, have others.
    env: Any = None
    envs: dict[int, Any] = field(factory=dict)
    # The host that was called last.
    latest: Host | None = None
    # Told when a host is gone, so that the next call makes a new one.
    on_gone: Callable[[Host], None] = field(default=lambda host: None)
    # The one host of an object, made if there is none; set by the directory.
    host_of: Callable[[ObjectId, type[Any], int], Host] = field(init=False)
    # What objects have begun by wait_until, and which of them did; closing gives it time to end.
    works: dict[Later[None], bytes] = field(factory=dict, init=False)
    # The web sockets of the objects that have some, by the bytes of their ids: they stay when the
    # objects are evicted.
    sockets: dict[bytes, Sockets] = field(factory=dict, init=False)
    # Those who are told what happens; set by whoever makes the services.
    observers: Observers = field(init=False)
    # What the objects of each class have done, by the class's number.
    tallies: dict[int, Tally] = field(factory=dict, init=False)
    # False from the moment the runtime begins to close.
    is_open: bool = True

    def tally_of(self, class_number: int, cls: type) -> Tally:
        """The counters of a class."""
        tally = self.tallies.get(class_number)
        if tally is None:
            tally = self.tallies[class_number] = Tally(cls.__name__)
        return tally
