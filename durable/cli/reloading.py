"""`durable serve --reload`: new code for a program that goes on running.

The store stays open and the server keeps its port. When a Python file under the folder changes, the
application's modules are imported anew, and its classes and its entry function are replaced.

Rule: the new code takes over as a whole, between two steps of the loop, or not at all. So all
modules are imported, since each may use what changed, and if one fails the old ones stay.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any, Protocol

import anyio
import click
import uvicorn
import watchfiles
from attrs import define, field, frozen

from durable import DurableObject, Runtime
from durable.asgi import Application

# What uvicorn shows; the library's own logger may not be set up.
log: logging.Logger = logging.getLogger("uvicorn.error")


class OwnFiles(watchfiles.PythonFilter):
    """Python files, but not those of installed packages."""

    ignore_dirs: Sequence[str] = (*watchfiles.PythonFilter.ignore_dirs, "site-packages")


@frozen
class Version:
    """The application's code, as it was imported at one time."""

    main: ModuleType
    modules: Mapping[str, ModuleType]
    app: Any

    @property
    def applications(self) -> dict[tuple[str, str], Application]:
        """The applications that have a store, by module and name; the app itself may be a
        framework's."""
        return {
            (module.__name__, name): value
            for module in self.modules.values()
            for name, value in vars(module).items()
            if isinstance(value, Application)
        }

    def successor_of(self, old: type[DurableObject]) -> type[DurableObject] | None:
        """The class that has the name of *old* now; it may have moved to or from the main one."""
        for module in (self.modules.get(old.__module__), self.main):
            new = getattr(module, old.__name__, None)
            if isinstance(new, type) and issubclass(new, DurableObject):
                return new
        return None


@define(eq=False)
class Reloading:
    """An ASGI application that is the latest version of `MODULE:APP` that could be imported."""

    target: str
    folder: str
    _files: OwnFiles = field(factory=OwnFiles, init=False)
    _version: Version = field(init=False)

    def __attrs_post_init__(self) -> None:
        # A file changed twice in one second, at the same size, would be taken for unchanged.
        sys.dont_write_bytecode = True
        try:
            self._version = self._import()
        except (ModuleNotFoundError, AttributeError) as error:
            raise click.UsageError(f"{self.target} cannot be loaded: {error}") from error
        if not self._version.applications:
            raise click.UsageError(
                f"--reload needs an application of durable.asgi.app() in a global of a module in "
                f"{self.folder}; {self.target} has none"
            )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._version.app(scope, receive, send)

    async def watch(self) -> None:
        """Reload whenever a file changes; never ends by itself."""
        async for changes in watchfiles.awatch(self.folder, watch_filter=self._files):
            self.reload({path for _, path in changes})

    def reload(self, changed: Collection[str]) -> None:
        """Use the new code, or log why the old one stays."""
        what = ", ".join(sorted(os.path.relpath(path, self.folder) for path in changed))
        old, modules = self._version, self._take_out()
        try:
            new = self._import()
            _check_succession(old, new)
        except (Exception, SystemExit):
            self._take_out()
            sys.modules.update(modules)
            log.exception("%s changed and cannot be used; the code from before stays", what)
            return
        self._version = new
        for place, application in old.applications.items():
            runtime = new.applications[place]._succeed(application)
            if runtime is not None:
                _replace_classes(runtime, old, new)
        log.info("%s changed; the new code is in use", what)

    def _import(self) -> Version:
        importlib.invalidate_caches()
        module, _, name = self.target.partition(":")
        main = importlib.import_module(module)
        return Version(main, self._own_modules(), attrgetter(name)(main))

    def _take_out(self) -> dict[str, ModuleType]:
        """Forget the application's modules, so that they are imported anew."""
        modules = self._own_modules()
        for name in modules:
            del sys.modules[name]
        return modules

    def _own_modules(self) -> dict[str, ModuleType]:
        return {name: m for name, m in list(sys.modules.items()) if self._is_own(name, m)}

    def _is_own(self, name: str, module: ModuleType) -> bool:
        if name == "__main__" or name.partition(".")[0] == "durable":
            return False
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.startswith(self.folder + os.sep):
            return False
        return self._files(watchfiles.Change.modified, file)


class Watching(Protocol):
    """Watches for changes, until it is cancelled."""

    async def watch(self) -> None: ...


class Server(uvicorn.Server):
    """A server that watches the files of its application while it serves."""

    def __init__(self, config: uvicorn.Config, reloading: Watching) -> None:
        super().__init__(config)
        self._reloading = reloading

    async def serve(self, sockets: Any = None) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._reloading.watch)
            await super().serve(sockets)
            tasks.cancel_scope.cancel()


def _check_succession(old: Version, new: Version) -> None:
    if not callable(new.app):
        raise TypeError(f"{new.app!r} is not an ASGI application")
    for module, name in old.applications.keys() - new.applications.keys():
        raise LookupError(f"{module}.{name}, which has the store, is gone; start the server anew")


def _replace_classes(runtime: Runtime, old: Version, new: Version) -> None:
    for cls in runtime.classes():
        if cls.__module__ not in old.modules:
            continue
        successor = new.successor_of(cls)
        if successor is None:
            log.warning("the class %s is gone; its objects keep the old code", cls.__name__)
        elif successor is not cls:
            runtime.replace(cls, successor)
