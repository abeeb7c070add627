"""The main module of a script: imported once, for its classes and its `fetch`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from durable._border.durable_object import DurableObject, check_methods
from durable._model.errors import InvalidConfig

from .config import ScriptConfig

Fetch = Callable[[Any, Any], Any]


# Modules that only a Worker imports, and only `durable.workers` provides.
_OF_WORKERS = frozenset({"workers", "js", "pyodide"})


@frozen
class Main:
    """The contents of a script's main module for the runtime."""

    classes: Mapping[str, type[DurableObject]]
    fetch: Fetch | None


def load_main(script: ScriptConfig) -> Main:
    """Import the main module of *script*. An exception of the module itself passes unchanged."""
    module = _import(script)
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, DurableObject) and name == value.__name__
    }
    classes.pop(DurableObject.__name__, None)
    for cls in classes.values():
        check_methods(cls)
    fetch = vars(module).get("fetch")
    return Main(classes, fetch if callable(fetch) else None)


def _import(script: ScriptConfig) -> ModuleType:
    if script.main is None:
        raise _error(script, "it is missing; name the module or file that has the classes")
    folder = script.file.absolute().parent
    with _importable(folder):
        if script.main.endswith(".py") or "/" in script.main:
            path = folder / script.main
            if not path.is_file():
                raise _error(script, f"there is no file {path}")
            try:
                return _import_file(path)
            except ModuleNotFoundError as error:
                if error.name in _OF_WORKERS:
                    error.add_note(
                        "a Python Worker of Cloudflare's is opened by durable.workers.open_worker, "
                        "and served by `durable dev`"
                    )
                raise
        try:
            return importlib.import_module(script.main)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{script.main}.".startswith(f"{error.name}."):
                raise
            raise _error(script, f"there is no module {script.main!r}") from error


def _error(script: ScriptConfig, what: str) -> InvalidConfig:
    return InvalidConfig(str(script.file), None, "main", what)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules beside the file can be imported, as with `python FILE`."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _import_file(path: Path) -> ModuleType:
    """The module of the file; one that was imported already is not made twice, so that its classes
    are the same everywhere."""
    path = path.resolve()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).name == path.name and Path(file).resolve() == path:
            return module
    name = path.stem
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        name = f"{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
