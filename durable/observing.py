"""The events that observers are called with, by name: `from durable import observing`.

def observe(event: observing.Event) -> None:
    match event:
        case observing.DeliveryEnded(outcome=observing.Outcome.ERROR):
            print(event.label, event.method, event.error)
        case observing.ObjectBroken():
            print(event.label, event.reason)

async with durable.open("state", observer=observe) as runtime: ...
"""

from durable._model.observer import (
    QUERY_SIZE_MAX,
    SLOW_TURN_S_MIN,
    AlarmRang,
    CommitEnded,
    DeliveryCame,
    DeliveryEnded,
    Event,
    ObjectBroken,
    ObjectEvent,
    ObjectEvicted,
    ObjectWoken,
    Observer,
    Outcome,
    Overloaded,
    QueryEnded,
    TurnTookLong,
)

__all__ = [
    "QUERY_SIZE_MAX",
    "SLOW_TURN_S_MIN",
    "AlarmRang",
    "CommitEnded",
    "DeliveryCame",
    "DeliveryEnded",
    "Event",
    "ObjectBroken",
    "ObjectEvent",
    "ObjectEvicted",
    "ObjectWoken",
    "Observer",
    "Outcome",
    "Overloaded",
    "QueryEnded",
    "TurnTookLong",
]
