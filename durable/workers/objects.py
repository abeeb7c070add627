"""Classes of objects: each class of a Worker has one of the library's in front of it.

Calls reach the library's object, which calls the Worker's; on the way values are converted to what
Cloudflare's Python has, and back. Calls of the Worker's object to itself do not pass here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, ClassVar

import durable

from .crossing import inward, outward
from .entrypoints import DurableObject, relaxed
from .env import EnvWrapper
from .javascript import JsException, JsTypeError
from .js_collections import JsObject
from .promises import settled
from .scope import Scope, running
from .sdk_messages import response_sent
from .sockets import WebSocket, content_of
from .state import DurableObjectContext

# The names that authors may give them, by the names of the library's handlers.
HANDLERS: dict[str, tuple[str, ...]] = {
    "fetch": ("fetch", "on_fetch"),
    "alarm": ("alarm", "on_alarm"),
    "websocket_message": (
        *("webSocketMessage", "web_socket_message", "websocket_message"),
        "on_webSocketMessage",
    ),
    "websocket_close": (
        *("webSocketClose", "web_socket_close", "websocket_close"),
        "on_webSocketClose",
    ),
    "websocket_error": (
        *("webSocketError", "web_socket_error", "websocket_error"),
        "on_webSocketError",
    ),
}
_NAMES = frozenset(name for names in HANDLERS.values() for name in names)


class WorkerObject(durable.DurableObject):
    """An object of a Worker."""

    _worker_class: ClassVar[type[Any]] = DurableObject

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self._scope = Scope(EnvWrapper(env), ctx.wait_until, ctx.confirmed)
        with running(self._scope):
            self.instance: Any = self._worker_class(DurableObjectContext(ctx), self._scope.env)

    async def _ask(self, handler: str, *args: Any) -> Any:
        """The result of the handler of the Worker's object."""
        for name in HANDLERS[handler]:
            method = getattr(self.instance, name, None)
            if method is not None:
                with running(self._scope):
                    return await settled(relaxed(method, *args))
        raise JsTypeError(f"Method {HANDLERS[handler][0]} does not exist")

    async def _invoke(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The result of a method of the Worker's object, converted to be sent."""
        given = [inward(each) for each in args]
        with running(self._scope):
            method = getattr(self.instance, name)
            result = method(*given, **{key: inward(each) for key, each in options.items()})
            return outward(await settled(result))

    async def alarm(self, alarm: durable.AlarmInfo) -> None:
        alarm_info = JsObject(
            retryCount=alarm.retry_count,
            isRetry=alarm.is_retry,
            scheduledTime=int(alarm.scheduled_time.timestamp() * 1000),
        )
        await self._ask("alarm", alarm_info)


async def _fetch(self: WorkerObject, request: durable.Request) -> durable.Response:
    return response_sent(await self._ask("fetch", inward(request)))


async def _websocket_message(
    self: WorkerObject, ws: durable.WebSocket, message: str | bytes
) -> None:
    await self._ask("websocket_message", WebSocket(ws), content_of(message))


async def _websocket_close(
    self: WorkerObject, ws: durable.WebSocket, code: int, reason: str, was_clean: bool
) -> None:
    await self._ask("websocket_close", WebSocket(ws), code, reason, was_clean)


async def _websocket_error(self: WorkerObject, ws: durable.WebSocket, error: Exception) -> None:
    await self._ask("websocket_error", WebSocket(ws), JsException(str(error)))


_ASKED: dict[str, Callable[..., Awaitable[Any]]] = {
    "fetch": _fetch,
    "websocket_message": _websocket_message,
    "websocket_close": _websocket_close,
    "websocket_error": _websocket_error,
}


def object_class(cls: type) -> type[WorkerObject]:
    """The library's class for *cls*, a subclass of `workers.DurableObject`, under its name."""
    body: dict[str, Any] = {
        "_worker_class": cls,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    body |= {
        handler: ask
        for handler, ask in _ASKED.items()
        if any(hasattr(cls, name) for name in HANDLERS[handler])
    }
    for name in dir(cls):
        # A stub has an `id` and a `name` of its own, at Cloudflare too.
        if not name.startswith("_") and name not in _NAMES and name not in {"id", "name"}:
            found = inspect.getattr_static(cls, name)
            if isinstance(found, FunctionType | staticmethod | classmethod):
                body[name] = _method(name, cls)
    return type(cls.__name__, (WorkerObject,), body)


def _method(name: str, cls: type) -> Callable[..., Any]:
    async def invoke(self: WorkerObject, *args: Any, **options: Any) -> Any:
        return await self._invoke(name, args, options)

    invoke.__name__ = name
    invoke.__qualname__ = f"{cls.__qualname__}.{name}"
    invoke.__doc__ = getattr(cls, name).__doc__
    return invoke
