"""Opening a Worker: reads its configuration, loads its code, opens its store, runs its crons.

Rule: what is begun here is undone at the end, the modules that its code imports too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

from durable import (
    Clock,
    Codec,
    DurableError,
    Env,
    InvalidConfig,
    Limits,
    MissingExtra,
    Runtime,
    SystemClock,
)
from durable._deploy.config import ScriptConfig
from durable._deploy.programs import Program
from durable._model.observer import Observer
from durable._runtime.opening import Opening

from .crons import Schedule, keep
from .env import EnvWrapper, Variables
from .imports import Code, installed, load
from .scope import Scope, running
from .worker import SCHEDULED_PATH, Worker, bindings_of
from .wrangler import Tables, read_wrangler, tables_of, variables_of

log: logging.Logger = logging.getLogger("durable")

# How long objects can go back where the configuration says nothing: as long as at Cloudflare.
HISTORY_US = timedelta(days=30) // timedelta(microseconds=1)

# The store's folder unless another is given, beside the file.
FOLDER = ".durable"


class open_worker(Opening):
    """Open the Worker that a file of Wrangler's describes, `wrangler.toml` or `wrangler.jsonc`.

        async with durable.workers.open_worker("wrangler.jsonc") as runtime:
            stub = runtime.env.LISTS.get_by_name("shopping")

    *environment*: a NAME of the file's `[env.NAME]`; *beside*: the files of other Workers, whose
    classes and entrypoints are bound; *path*: the store's folder, `.durable` beside the file by
    default; the others are those of `durable.open`. While it is open, `workers`, `js` and `pyodide`
    can be imported, and `worker` is the Worker.

    On asyncio only, as Workers are programs of asyncio. Raises InvalidConfig at the call, and what
    `durable.open` raises. What the main module raises passes unchanged.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        beside: Sequence[str | os.PathLike[str]] = (),
        path: str | os.PathLike[str] | None = None,
        environment: str | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
        reads: str = "inline",
        observer: Observer | None = None,
        operate: bool | None = None,
        scratch: bool = False,
        debug: bool = False,
        wait_s: float | None = None,
    ) -> None:
        config = read_wrangler(file, environment, beside)
        self._script = config.script
        self._tables: dict[str | None, Tables] = {
            script.name: tables_of(script) for script in config
        }
        self._scripts = {script.name: script for script in config}
        for script in config:
            _main_of(script)
        self._schedules = _schedules(config.script, self._tables[config.script.name])
        self._clock: Clock = clock or SystemClock()
        self._workers: dict[str | None, Worker] = {}
        self._crons: list[asyncio.Task[None]] = []
        self._ends: ExitStack = ExitStack()
        self.folder: str = os.fspath(_folder(config.script, path))
        super().__init__(
            self.folder,
            (),
            limits=limits,
            clock=self._clock,
            codec=codec,
            reads=reads,
            observer=observer,
            operate=operate,
            scratch=scratch,
            debug=debug,
            wait_s=config.script.wait_s if wait_s is None else wait_s,
            # Its code may be replaced while it is open, which works within one process only.
            shared=False,
            shards=None,
            peers=None,
        )
        self._grace_s = (limits or Limits()).shutdown_s_max

    @property
    def worker(self) -> Worker:
        """The open Worker; only while it is open."""
        return self._workers[self._script.name]

    @property
    def folders(self) -> list[str]:
        """The folders of the Workers' code."""
        return [str(_main_of(script).resolve().parent) for script in self._scripts.values()]

    async def __aenter__(self) -> Runtime:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DurableError(
                "a Worker is a program of asyncio, and this is another event loop; run it with "
                "asyncio.run(), or anyio.run() without a backend of your own"
            ) from None
        try:
            self._ends.enter_context(installed())
            self._workers = self._load()
            self._ends.callback(self._forget)
            self._programs = [self._program(worker) for worker in self._workers.values()]
            runtime = await super().__aenter__()
        except BaseException:
            self._ends.close()
            raise
        self._bind(runtime)
        for cron, schedule in self._schedules.items():
            kept = keep(cron, schedule, self._clock, self._run_cron)
            self._crons.append(asyncio.ensure_future(kept))
        return runtime

    async def close(self) -> None:
        """Close the store, as leaving the block does; nothing if it is not open any more."""
        try:
            for task in self._crons:
                task.cancel()
            await asyncio.gather(*self._crons, return_exceptions=True)
            for worker in self._workers.values():
                await worker.background.close(self._grace_s)
            await super().close()
        finally:
            self._ends.close()

    async def _run_cron(self, cron: str, time_ms: int) -> None:
        await self.worker.scheduled(cron, time_ms)

    # Code

    def _load(self) -> dict[str | None, Worker]:
        """The Workers, with their code imported; the one that is opened last."""
        loaded: dict[str | None, Worker] = {}
        codes: list[Code] = []
        for script in self._scripts.values():
            tables = self._tables[script.name]
            entries = variables_of(script)
            entries.update(bindings_of(script, tables, self._find, self._scripts))
            namespaces = [each.name for each in script.bindings if each.name not in entries]
            early = EnvWrapper(Variables(entries, namespaces))
            with running(Scope(early)):
                code = load(_main_of(script), codes)
            codes.append(code)
            loaded[script.name] = Worker(script, tables, entries, code)
        sys.path[:0] = [str(code.folder) for code in reversed(codes)]
        return loaded

    def _find(self, script: str) -> Worker:
        return self._workers[script]

    def _forget(self) -> None:
        for worker in self._workers.values():
            worker.code.forget()
            with suppress(ValueError):
                sys.path.remove(str(worker.code.folder))

    def _program(self, worker: Worker) -> Program:
        script = worker.script
        return Program(
            script=script.name,
            classes=worker.classes,
            bindings={
                each.name: each.naming for each in script.bindings if each.script in self._scripts
            },
            vars=worker.entries,
            migrations=script.migrations,
            is_complete=True,
            file=str(script.file),
            table=script.bindings_table,
            histories={**dict.fromkeys(worker.classes, HISTORY_US), **script.histories_us},
        )

    def _bind(self, runtime: Runtime) -> None:
        """Give each Worker the `env` of its script."""
        for worker in self._workers.values():
            if worker is self.worker:
                worker.env = EnvWrapper(runtime.env)
                continue
            entries = dict(worker.entries)
            for binding in worker.script.bindings:
                other = self._workers.get(binding.script)
                cls = None if other is None else other.classes.get(binding.class_name)
                if cls is not None:
                    entries[binding.name] = runtime.namespace(cls)
            worker.env = EnvWrapper(Env(entries))

    def reload(self, runtime: Runtime) -> None:
        """Load the code of the Workers anew, and replace the classes of *runtime*'s objects.

        An exception of the new code as it is imported passes unchanged, and the old code stays.
        """
        before, path = self._workers, list(sys.path)
        self._forget()
        try:
            after = self._load()
        except BaseException:
            for worker in before.values():
                worker.code.put_back()
            sys.path[:] = path
            raise
        self._workers = after
        used = runtime.classes()
        for name, worker in after.items():
            worker.env = before[name].env
            worker.background = before[name].background
            for old in before[name].classes.values():
                new = worker.classes.get(old.__name__)
                if new is None:
                    log.warning("the class %s is gone; its objects keep the old code", old.__name__)
                elif old in used:
                    runtime.replace(old, new)


def _main_of(script: ScriptConfig) -> Path:
    """The file of the main module. Raises InvalidConfig if there is none."""
    if script.main is None:
        raise InvalidConfig(str(script.file), None, "main", "it is missing; name the Python file")
    path = script.file.absolute().parent / script.main
    if path.suffix != ".py" or not path.is_file():
        what = "there is no file" if path.suffix == ".py" else "it must be a Python file, not"
        raise InvalidConfig(str(script.file), None, "main", f"{what} {path}")
    return path


def _folder(script: ScriptConfig, path: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    if path is not None:
        return path
    return Path(script.path or script.file.absolute().parent / FOLDER)


def _schedules(script: ScriptConfig, tables: Tables) -> dict[str, Schedule]:
    """The crons to run. Without the library that parses them this is logged, and the Worker runs
    without them."""
    found: dict[str, Schedule] = {}
    for cron in tables.crons:
        try:
            found[cron] = Schedule(cron)
        except MissingExtra:
            log.warning(
                "%s, [triggers]: crons need the library cronsim; install durable-objects[cron], or "
                "pull them by hand at %s",
                script.file,
                SCHEDULED_PATH,
            )
            break
        except ValueError as error:
            raise InvalidConfig(str(script.file), "triggers", "crons", str(error)) from error
    return found
