"""One Worker: its code, its bindings, and how requests reach it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from attrs import define, field

import durable
from durable._deploy.config import ScriptConfig

from . import messages
from .assets import AssetsBinding
from .background import Background
from .crossing import inward, outward
from .dates import JsDate
from .entrypoints import DurableObject, ExecutionContext, WorkerEntrypoint, relaxed
from .env import EnvWrapper, MissingBinding
from .errors import raised_there
from .imports import Code
from .js_collections import JsObject, options_of
from .namespaces import Fetcher
from .objects import WorkerObject, object_class
from .promises import Promise, settled, started
from .scope import Scope, confirm, running
from .sdk_messages import response_sent
from .wrangler import Tables

log: logging.Logger = logging.getLogger("durable")

DEFAULT = "Default"
# The path that runs a cron trigger by hand, as in Wrangler.
SCHEDULED_PATH = "/cdn-cgi/handler/scheduled"
# Names of a Worker's methods that cannot be called by name.
_RESERVED = frozenset({"fetch", "connect", "scheduled", "queue", "alarm", "test", "ctx", "env"})


@define(eq=False)
class Worker:
    """A loaded Worker. *entries* are its bindings beside its classes; *env* is passed to its code,
    once the store is open."""

    script: ScriptConfig
    tables: Tables
    entries: dict[str, Any]
    code: Code
    env: Any = None
    classes: dict[str, type[WorkerObject]] = field(init=False)
    background: Background = field(factory=Background)

    def __attrs_post_init__(self) -> None:
        self.classes = {
            cls.__name__: object_class(cls) for cls in _public(self.code, DurableObject)
        }

    @property
    def scope(self) -> Scope:
        return Scope(EnvWrapper(self.env), self.background.begin)

    # Requests and calls

    async def respond(self, request: durable.Request) -> durable.Response:
        """The response to a request from the outside: from a file, or from the Worker."""
        if request.url.path == SCHEDULED_PATH:
            return await self._pull(request)
        assets = self.tables.assets
        if assets is None or assets.is_for_worker(request.url.path):
            return await self.fetch(None, request)
        found = assets.find(request)
        if found is None and assets.is_navigation(request):
            found = assets.missing(request)
        if found is not None:
            return found
        return await self.fetch(None, request)

    async def fetch(self, entrypoint: str | None, request: durable.Request) -> durable.Response:
        """The response of the Worker's own code."""
        instance = self._instance(entrypoint)
        if instance is not None:
            fetch = getattr(instance, "fetch", None) or getattr(instance, "on_fetch", None)
            if fetch is None:
                raise TypeError(f"{type(instance).__name__} of {self.label} has no fetch()")
            with running(self.scope):
                return response_sent(await settled(relaxed(fetch, inward(request))))
        on_fetch = getattr(self.code.main, "on_fetch", None)
        if on_fetch is None:
            if self.tables.assets is not None:
                return self.tables.assets.missing(request)
            raise TypeError(
                f"{self.label} has no class {DEFAULT}(WorkerEntrypoint) and no on_fetch(), which "
                f"would answer requests"
            )
        scope = self.scope
        given = messages.Request.over(request)
        context = ExecutionContext(self.background.begin)
        with running(scope):
            return response_sent(await settled(relaxed(on_fetch, given, scope.env, context)))

    async def call(self, entrypoint: str | None, name: str, args: list[Any]) -> Any:
        """The result of a method of an entrypoint, converted to be sent."""
        instance = self._instance(entrypoint)
        method = None if name in _RESERVED else getattr(instance, name, None)
        if not callable(method):
            raise durable.NoSuchMethod(f'The RPC receiver does not implement the method "{name}".')
        given = [inward(each) for each in args]
        with running(self.scope):
            return outward(await settled(method(*given)))

    async def scheduled(self, cron: str, time_ms: int) -> None:
        """Run the handler of crons. An exception of it passes unchanged."""
        controller = JsObject(
            scheduledTime=time_ms, cron=cron, type="scheduled", noRetry=lambda: None
        )
        context = ExecutionContext(self.background.begin)
        instance = self._instance(None)
        handler: Callable[..., Any] | None = getattr(instance, "scheduled", None)
        if handler is None:
            handler = getattr(instance, "on_scheduled", None)
        if handler is None:
            handler = getattr(self.code.main, "on_scheduled", None)
        if handler is None:
            raise TypeError(f"{self.label} has crons, but no scheduled() to call")
        with running(self.scope):
            await settled(relaxed(handler, controller, self.scope.env, context))

    async def _pull(self, request: durable.Request) -> durable.Response:
        query = request.url.query
        cron = query.get("cron", "")
        time_ms = query.get("time")
        at = JsDate.now() if time_ms is None else int(time_ms)
        await self.scheduled(cron, at)
        return durable.Response("ok")

    def _instance(self, entrypoint: str | None) -> Any:
        """A new instance of the entrypoint; None for a Worker without such classes."""
        name = entrypoint or DEFAULT
        found = [cls for cls in _public(self.code, WorkerEntrypoint) if cls.__name__ == name]
        if not found:
            if entrypoint is None or entrypoint == "default":
                return None
            raise TypeError(f"{self.label} has no entrypoint {entrypoint!r}")
        scope = self.scope
        with running(scope):
            return found[0](ExecutionContext(self.background.begin), scope.env)

    @property
    def label(self) -> str:
        return f"the Worker {self.script.name or self.script.file.name}"


def _public(code: Code, base: type) -> list[type]:
    """The classes of this kind in the main module, defined or imported."""
    names = getattr(code.main, "__all__", None)
    if names is None:
        names = [name for name in vars(code.main) if not name.startswith("_")]
    found = [getattr(code.main, name, None) for name in names]
    bases = {DurableObject, WorkerEntrypoint}
    return list(
        dict.fromkeys(
            each
            for each in found
            if isinstance(each, type)
            and issubclass(each, base)
            and each not in bases
            and each.__module__.partition(".")[0] != __name__.partition(".")[0]
        )
    )


class ServiceBinding(Fetcher):
    """`env.NAME` for another Worker, or an entrypoint of this one."""

    def __init__(self, find: Callable[[], Worker], entrypoint: str | None) -> None:
        self._find = find
        self._entrypoint = entrypoint

    def _send(self, request: durable.Request) -> Any:
        worker = self._find()
        return started(_after_writes(lambda: worker.fetch(self._entrypoint, request)))

    def scheduled(self, options: Any = None, **more: Any) -> Promise:
        """Run a cron trigger: the one with this `cron`, at this `scheduledTime` in milliseconds."""
        given = options_of(options, more)
        worker = self._find()

        async def run() -> JsObject:
            await worker.scheduled(
                str(given.get("cron", "")), int(given.get("scheduledTime", JsDate.now()))
            )
            return JsObject(outcome="ok", noRetry=False)

        return Promise(started(_after_writes(run)), None, raised_there)

    def _call(self, name: str, args: list[Any]) -> Any:
        worker = self._find()
        return started(_after_writes(lambda: worker.call(self._entrypoint, name, args)))


async def _after_writes(ask: Callable[[], Awaitable[Any]]) -> Any:
    await confirm()
    return await ask()


def bindings_of(
    script: ScriptConfig,
    tables: Tables,
    find: Callable[[str], Worker],
    scripts: Mapping[str | None, ScriptConfig],
) -> dict[str, Any]:
    """The bindings of a Worker beside its classes and variables."""
    found: dict[str, Any] = {
        name: MissingBinding(name, kind) for name, kind in tables.missing.items()
    }
    for service in tables.services:
        if service.script in scripts:
            found[service.name] = ServiceBinding(partial(find, service.script), service.entrypoint)
        else:
            found[service.name] = _elsewhere(service.name, "service", service.script)
    for binding in script.bindings:
        if binding.script not in scripts:
            found[binding.name] = _elsewhere(binding.name, "class", binding.script)
    if tables.assets is not None and tables.assets_binding is not None:
        found[tables.assets_binding] = AssetsBinding(tables.assets)
    return found


def _elsewhere(name: str, what: str, script: str | None) -> MissingBinding:
    return MissingBinding(
        name,
        f"a {what} of the Worker {script!r}, which is not at hand: give its configuration too, as "
        f"in `durable dev wrangler.toml ../{script}/wrangler.toml`",
    )
