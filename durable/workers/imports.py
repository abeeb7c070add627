"""The modules of Cloudflare's runtime, which can be imported while a Worker runs.

Rule: the modules of before are restored afterwards; an installed package of one of these names is
set aside with a warning.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from attrs import define, field

from . import provided

log: logging.Logger = logging.getLogger("durable")

NAMES = ("workers", "js", "pyodide", "asgi")

_installed: int = 0
_set_aside: dict[str, ModuleType] = {}


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in NAMES


def install() -> None:
    """Provide the modules, until `uninstall` has been called as often."""
    global _installed  # noqa: PLW0603 - sys.modules is one for the process
    _installed += 1
    if _installed > 1:
        return
    _warn_of_installed()
    for name in filter(_is_ours, sys.modules.copy()):
        _set_aside[name] = sys.modules.pop(name)
    sys.modules.update(provided.modules())


def uninstall() -> None:
    global _installed  # noqa: PLW0603
    _installed -= 1
    if _installed:
        return
    for name in filter(_is_ours, sys.modules.copy()):
        del sys.modules[name]
    sys.modules.update(_set_aside)
    _set_aside.clear()


@contextmanager
def installed() -> Iterator[None]:
    """Within the block, `workers`, `js` and `pyodide` can be imported."""
    install()
    try:
        yield
    finally:
        uninstall()


def _warn_of_installed() -> None:
    for name in NAMES:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin is not None:
            log.warning(
                "the installed package %s (%s) is set aside while a Worker runs, which gets "
                "durable's in its place",
                name,
                spec.origin,
            )


@define(eq=False)
class Code:
    """The modules of one Worker: the main one, and those that it has imported from its folder."""

    main: ModuleType
    folder: Path
    modules: dict[str, ModuleType] = field(factory=dict)

    def forget(self) -> None:
        """Remove the modules, so that they are imported anew."""
        for name, module in self.modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def put_back(self) -> None:
        """Restore the modules after all."""
        sys.modules.update(self.modules)


def load(path: Path, others: Collection[Code] = ()) -> Code:
    """Import the main module of a Worker, as its runtime does: under the name of its file, with the
    modules beside it. An exception of the module itself passes unchanged.

    It does not find modules of the same names that *others* have, nor does it replace theirs.
    """
    folder, name = path.resolve().parent, path.stem
    for other in others:
        other.forget()
    before = sys.modules.copy()
    aside = sys.modules.pop(name, None)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        main = importlib.import_module(name)
    except BaseException:
        _take_out(before, folder)
        if aside is not None:
            sys.modules[name] = aside
        raise
    finally:
        sys.path.remove(str(folder))
    return Code(main, folder, _own(folder))


def _own(folder: Path) -> dict[str, ModuleType]:
    return {name: m for name, m in sys.modules.copy().items() if _is_in(m, folder)}


def _is_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.startswith(str(folder)):
        return False
    inner = Path(file).relative_to(folder).parts
    return not any(part in {"site-packages", "python_modules"} for part in inner)


def _take_out(before: dict[str, ModuleType], folder: Path) -> None:
    for name, module in _own(folder).items():
        if before.get(name) is not module:
            del sys.modules[name]
