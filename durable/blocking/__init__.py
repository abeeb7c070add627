"""Durable Objects for code that does not `await`: Flask, Django, scripts and notebooks.

    with durable.blocking.open("state", bindings={"COUNTERS": Counter}) as runtime:
        print(runtime.env.COUNTERS.get_by_name("front page").increment())

The names are those of `durable`, without `await`, and may be used from any thread. The objects run
in an event loop of their own, in a thread that belongs to the runtime.
"""

from .loop_thread import WrongThread
from .opening import open, open_config
from .runtime import Namespace, Runtime
from .stub import RemoteFunction, Response, Stream, Stub

__all__ = [
    "Namespace",
    "RemoteFunction",
    "Response",
    "Runtime",
    "Stream",
    "Stub",
    "WrongThread",
    "open",
    "open_config",
]
