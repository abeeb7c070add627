"""The class that authors subclass."""

from __future__ import annotations

from typing import Any

from durable._model.declared import said_by
from durable._model.retention import history_of
from durable._object.activation import Activation

from .ctx import State


class DurableObject:
    """A named object with memory and storage of its own, of which one instance lives at a time.

    Subclass it, and call the instances through the stubs of a `Namespace`. Handlers that may be
    defined: `async fetch(self, request)`, `async alarm(self, info)` (*info* may be left out) or
    `async timer(self, name, payload, info)` (the same), `async websocket_message(self, ws,
    message)`, `websocket_close(self, ws, code, reason, was_clean)` and `websocket_error(self, ws,
    error)`. Every other public method is callable on a stub.

    The constructor runs before the first event is delivered. What it must wait for it gives to
    `ctx.block_concurrency_while`.
    """

    def __init__(self, ctx: State, env: Any) -> None:
        self.ctx = ctx
        self.env = env


def construct(activation: Activation) -> None:
    """Make the author's object that *activation* keeps."""
    activation.state = State(activation)
    activation.instance = activation.cls(activation.state, activation.state.env)


MAKING = ("__new__", "__init__", "__setattr__")


def has_constructor(cls: type) -> bool:
    """Whether code of its author runs when an instance of *cls* is made."""
    return (
        any(getattr(cls, name) is not getattr(DurableObject, name) for name in MAKING)
        or type(cls).__call__ is not type.__call__
        # Descriptors would see what they are set to.
        or any(hasattr(cls, name) for name in ("ctx", "env"))
    )


HANDLERS = frozenset(
    {"fetch", "alarm", "timer", "websocket_message", "websocket_close", "websocket_error"}
)


def rpc_method(cls: type, name: str) -> Any | None:
    """The method *name* of *cls* as it stands in the class, if it may be called through a stub."""
    if name.startswith("_") or name in HANDLERS:
        return None
    for owner in cls.__mro__:
        if owner is DurableObject or owner is object:
            continue
        if name in vars(owner):
            found = vars(owner)[name]
            function = getattr(found, "__func__", found)
            if isinstance(found, property) or isinstance(function, type) or not callable(function):
                return None
            return function
    return None


# What a stub has itself, which would be found in place of the object's. Its `call` and `rpc` make
# way for methods of these names, which existed before them.
OF_THE_STUB = ("id", "name")


def check_methods(cls: type) -> None:
    """TypeError if *cls* has a public method that no stub could call, `values` that are none, or
    handlers that exclude each other."""
    if hasattr(cls, "alarm") and hasattr(cls, "timer"):
        raise TypeError(
            f"{cls.__qualname__} has alarm() and timer(), and an object has one of them: timers "
            f"ring on its one alarm. Do what alarm() does in timer(), under a name for it; or give "
            f"timer() another name, if it is no handler of timers"
        )
    for _ in said_by(cls):
        pass
    history_of(cls)
    for name in OF_THE_STUB:
        if rpc_method(cls, name) is not None:
            raise TypeError(
                f"{cls.__qualname__}.{name}() could not be called, since stub.{name} is the "
                f"stub's own; call the method otherwise, such as get_{name}(), or _{name}() if no "
                f"stub is to call it"
            )
