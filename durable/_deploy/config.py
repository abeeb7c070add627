"""The configuration: a file with the tables of Wrangler's, TOML or JSON, as frozen values.

Nothing is imported and no store is touched here; `modules.py` and `opening.py` do that.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import field, frozen

from durable._engine.catalog import Naming
from durable._model.errors import InvalidConfig
from durable._model.peers import Peers

from . import jsonc
from .config_table import Table, nearest
from .histories_table import histories_of
from .migrations import Migration
from .peers_table import peers_of

TOP_KEYS = (
    "name",
    "main",
    "path",
    "wait_s",
    "shared",
    "peers",
    "scripts",
    "durable_objects",
    "history",
    "vars",
    "migrations",
    "env",
)
ENVIRONMENT_KEYS = (
    *("main", "path", "wait_s", "shared", "peers"),
    *("durable_objects", "history", "vars"),
)
BINDING_KEYS = ("name", "class_name", "script_name", "environment")
MIGRATION_KEYS = (
    "tag",
    "new_classes",
    "new_sqlite_classes",
    "renamed_classes",
    "deleted_classes",
    "transferred_classes",
)

_SCRIPT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


@frozen
class Binding:
    """A variable of `env` through which the objects of a class are reached."""

    name: str
    class_name: str
    script: str | None  # the script that the class belongs to, with the environment in the name

    @property
    def naming(self) -> Naming:
        return self.script, self.class_name


@frozen
class ScriptConfig:
    """One script: the part of a file for one environment, or its top."""

    file: Path
    environment: str | None
    name: str | None
    main: str | None
    path: Path | str | None  # a folder, or the URL of a database
    wait_s: float
    shared: bool
    peers: Peers | None
    bindings: tuple[Binding, ...]
    vars: Mapping[str, Any]
    migrations: tuple[Migration, ...]
    # How many days the objects of a class can go back, by its name.
    histories: Mapping[str, float]
    # The table that says so, if the classes are those of the main module that goes with it.
    history_table: str | None
    # Other files whose scripts may be bound.
    scripts: tuple[Path, ...]
    # Keys that the caller reads itself, see `Wrangler.keys`.
    further: Mapping[str, Any] = field(factory=dict)

    @property
    def histories_us(self) -> dict[str, int]:
        """The same in microseconds."""
        microsecond = timedelta(microseconds=1)
        return {
            name: round(timedelta(days=days) / microsecond) for name, days in self.histories.items()
        }

    @property
    def bindings_table(self) -> str:
        return _where(self.environment, "durable_objects")


@frozen
class Config:
    """The script that is opened, and all other scripts that it refers to."""

    script: ScriptConfig
    others: tuple[ScriptConfig, ...]

    def __iter__(self) -> Iterator[ScriptConfig]:
        """Others first: their classes may be transferred to the script that is opened."""
        yield from self.others
        yield self.script


@frozen
class Wrangler:
    """How to read a file of Wrangler's as it is.

    What only a part of the program needs may be missing then: a binding of a script that is not
    given stays, for the caller to handle. An environment may have a name and migrations of its own.
    """

    # Keys that the caller reads itself, in `ScriptConfig.further`. An environment inherits those of
    # the top that are inherited at Cloudflare.
    keys: frozenset[str] = frozenset()
    inherited: frozenset[str] = frozenset()
    # Other files, beside those that the file lists.
    beside: tuple[Path, ...] = ()
    # Names of further scripts that a script needs.
    reaches: Callable[[ScriptConfig], Iterable[str]] = lambda script: ()


def read_config(
    file: str | os.PathLike[str],
    environment: str | None = None,
    wrangler: Wrangler | None = None,
) -> Config:
    """Read *file* and the files that it lists; *environment* is a NAME of its `[env.NAME]` tables.

    Raises InvalidConfig, or OSError if a file cannot be read.
    """
    files = _Files(wrangler)
    source = files.read(Path(file))
    for path in wrangler.beside if wrangler else ():
        files.read(path)
    script = source.script(environment)
    reached = {script.name: script}
    waiting = [script]
    while waiting:
        for name, why in _reached_by(waiting.pop(0), wrangler):
            if name not in reached:
                other = files.script_called(name)
                if other is None and wrangler is not None:
                    continue
                if other is None:
                    raise _no_such_script(files, name, why)
                reached[name] = other
                waiting.append(other)
    others = [reached[name] for name in reached if name != script.name]
    return Config(script, tuple(reversed(others)))


def _reached_by(
    script: ScriptConfig, wrangler: Wrangler | None
) -> Iterator[tuple[str | None, Table]]:
    table = Table(script.file, script.bindings_table, {})
    for binding in script.bindings:
        yield binding.script, table
    for name in wrangler.reaches(script) if wrangler else ():
        yield name, table


def _no_such_script(files: _Files, name: str | None, why: Table) -> InvalidConfig:
    names = [known for source in files for known in source.script_names()]
    return why.error(
        "bindings",
        f"script_name: there is no script {name!r}{nearest(str(name), names)}; list its file in "
        f'scripts = ["…"] at the top of {why.file.name}',
    )


class _Files:
    """The files that were read, in the order in which they were found."""

    def __init__(self, wrangler: Wrangler | None) -> None:
        self._sources: dict[Path, _Source] = {}
        self._wrangler = wrangler

    def read(self, path: Path) -> _Source:
        """Read the file, the files that it lists, and so on."""
        key = path.resolve()
        if key not in self._sources:
            source = self._sources[key] = _Source(path, self._wrangler)
            for other in source.scripts:
                try:
                    self.read(other)
                except FileNotFoundError as error:
                    raise source.top.error("scripts", f"there is no file {other}") from error
        return self._sources[key]

    def script_called(self, name: str | None) -> ScriptConfig | None:
        for source in self:
            environment = source.script_names().get(name, "")
            if environment != "":
                return source.script(environment)
        return None

    def __iter__(self) -> Iterator[_Source]:
        return iter(self._sources.values())


class _Source:
    """One file, which has a script at its top and one in each of its environments."""

    def __init__(self, path: Path, wrangler: Wrangler | None) -> None:
        self.path = path
        self.wrangler = wrangler
        further = tuple(wrangler.keys) if wrangler else ()
        self.top = Table(path, "", _parse(path)).check_keys((*TOP_KEYS, *further))
        self.name = self.top.text("name")
        if self.name is not None and not _SCRIPT_NAME.fullmatch(self.name):
            raise self.top.error("name", f"{self.name!r} must be of letters, digits, '-' and '_'")
        self.scripts = tuple(path.parent / other for other in self.top.texts("scripts"))
        self.migrations = tuple(_migration(table) for table in self.top.tables("migrations"))
        environments = self.top.table("env")
        self.environments = {name: environments.table(name) for name in environments.entries}
        for name, table in self.environments.items():
            _check_environment(name, table, wrangler)
        if self.environments and self.name is None:
            raise self.top.error("name", "it is missing, and the scripts of [env] are called by it")

    def script_names(self) -> dict[str | None, str | None]:
        """The scripts of this file, each with its environment."""
        names: dict[str | None, str | None] = {self.name: None}
        names.update({self._called(env): env for env in self.environments})
        return names

    def _called(self, environment: str) -> str:
        own = self.environments[environment].text("name") if self.wrangler else None
        return own or f"{self.name}-{environment}"

    def script(self, environment: str | None) -> ScriptConfig:
        table = self.top
        if environment is not None:
            if environment not in self.environments:
                names = ", ".join(self.environments) or "none"
                hint = nearest(environment, self.environments) or f"; there are: {names}"
                raise self.top.error("env", f"there is no environment {environment!r}{hint}")
            table = self.environments[environment]
        name = self.name if environment is None else self._called(environment)
        path = table.store("path") or self.top.store("path")
        wait_s = table.seconds("wait_s")
        if wait_s is None:
            wait_s = self.top.seconds("wait_s")
        shared = table.flag("shared")
        if shared is None:
            shared = self.top.flag("shared")
        bindings = _bindings(table, name)
        variables = table.table("vars")
        has_history = "history" in table.entries
        goes_with_main = has_history or table.text("main") is None
        for binding in bindings:
            if binding.name in variables.entries:
                raise variables.error(binding.name, "a binding has this name too; rename one")
        return ScriptConfig(
            file=self.path,
            environment=environment,
            name=name,
            main=table.text("main") or self.top.text("main"),
            path=self.path.absolute().parent / path if isinstance(path, Path) else path,
            wait_s=wait_s or 0.0,
            shared=shared or False,
            peers=peers_of(table) or peers_of(self.top),
            bindings=bindings,
            vars=dict(variables.entries),
            migrations=self._migrations_of(table),
            histories=histories_of(table if has_history else self.top),
            history_table=(
                _where(environment if has_history else None, "history") if goes_with_main else None
            ),
            scripts=self.scripts,
            further=self._further(table),
        )

    def _migrations_of(self, table: Table) -> tuple[Migration, ...]:
        if table is self.top or "migrations" not in table.entries:
            return self.migrations
        return tuple(_migration(each) for each in table.tables("migrations"))

    def _further(self, table: Table) -> dict[str, Any]:
        if self.wrangler is None:
            return {}
        found = {key: self.top.entries.get(key) for key in self.wrangler.inherited}
        found.update({key: table.entries[key] for key in self.wrangler.keys & set(table.entries)})
        return {key: value for key, value in found.items() if value is not None}


def _parse(path: Path) -> dict[str, Any]:
    is_json = path.suffix in {".json", ".jsonc"}
    kind = "JSON" if is_json else "TOML"
    try:
        text = path.read_bytes().decode("utf-8-sig" if is_json else "utf-8")
        read: Any = jsonc.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(str(path), None, None, f"it is not valid {kind}: {error}") from error
    if not isinstance(read, dict):
        raise InvalidConfig(str(path), None, None, "it must be a table, in braces")
    return read


def _check_environment(name: str, table: Table, wrangler: Wrangler | None) -> None:
    if not _SCRIPT_NAME.fullmatch(name):
        raise table.error(None, f"{name!r} must be of letters, digits, '-' and '_'")
    if wrangler is not None:
        table.check_keys((*ENVIRONMENT_KEYS, "name", "migrations", *wrangler.keys))
        return
    if "migrations" in table.entries:
        raise table.error(
            "migrations",
            "all environments have the migrations at the top of the file and none of their own",
        )
    if "name" in table.entries:
        raise table.error(
            "name",
            "an environment's script is called by the name at the top, '-' and its own",
        )
    table.check_keys(ENVIRONMENT_KEYS)


def _bindings(table: Table, script: str | None) -> tuple[Binding, ...]:
    objects = table.table("durable_objects").check_keys(("bindings",))
    found: dict[str, Binding] = {}
    for entry in objects.tables("bindings"):
        binding = _binding(entry.check_keys(BINDING_KEYS), script)
        if binding.name in found:
            raise entry.error("name", f"there is another binding {binding.name!r}; rename one")
        found[binding.name] = binding
    return tuple(found.values())


def _binding(table: Table, script: str | None) -> Binding:
    name = table.text("name", is_required=True)
    class_name = table.text("class_name", is_required=True)
    assert name is not None
    assert class_name is not None
    for key, text in (("name", name), ("class_name", class_name)):
        if not text.isidentifier():
            raise table.error(key, f"{text!r} must be an identifier")
    script_name, environment = table.text("script_name"), table.text("environment")
    if environment is not None:
        if script_name is None:
            raise table.error("environment", "it goes with script_name, which is missing")
        script_name = f"{script_name}-{environment}"
    return Binding(name, class_name, script_name or script)


def _migration(table: Table) -> Migration:
    table = table.check_keys(MIGRATION_KEYS).only(MIGRATION_KEYS)
    table.text("tag", is_required=True)
    for key in ("new_classes", "new_sqlite_classes", "deleted_classes"):
        table.texts(key)
    for key, known in (
        ("renamed_classes", ("from", "to")),
        ("transferred_classes", ("from", "from_script", "to")),
    ):
        for entry in table.tables(key):
            entry.check_keys(known)
            for name in known:
                if name != "from_script" or entry.entries.get(name) != "":
                    entry.text(name, is_required=True)
    for key, value in table.entries.items():
        if key != "tag":
            _try_migration(table, key, {"tag": "-", key: value})
    return _try_migration(table, None, table.entries)


def _try_migration(table: Table, key: str | None, entries: Mapping[str, Any]) -> Migration:
    try:
        return Migration(**entries)
    except (TypeError, ValueError) as error:
        raise table.error(key, str(error)) from error


def _where(environment: str | None, key: str) -> str:
    return key if environment is None else f"env.{environment}.{key}"
