"""Module globals that the code of two objects has changed, as debug mode sees it.

What is looked at are the modules in which a class and its bases are defined: to what each global is
bound, and how many items it has if it is a plain container. It is compared before and after every
step of an object's code, so what others do between steps is put down to no object.
"""

from __future__ import annotations

import dis
import sys
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import TypeAlias

from attrs import define, field

# Of exactly these, so that to count is quick, and runs none of the author's code.
PLAIN = frozenset({list, dict, set, bytearray, deque, defaultdict, OrderedDict, Counter})
_MENTIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})

Seen: TypeAlias = dict[str, tuple[object, int]]
"""What each global of a module is bound to, and how many items it has."""


@define(eq=False)
class SharedGlobals:
    """Which objects of one runtime have changed which globals."""

    # By module and name, the first object that changed it: its id and label. None once reported.
    _changed: dict[tuple[str, str], tuple[str, str] | None] = field(factory=dict, init=False)
    # Those under way: one, or more where tasks are eager, each within the one before.
    _steps: list[Step] = field(factory=list, init=False)
    _unreported: list[Callable[[], None]] = field(factory=list, init=False)

    def begin(self, step: Step) -> None:
        self._settle()
        self._steps.append(step)
        step.look()

    def end(self) -> None:
        """The innermost step has ended. Warns, which may be made an error."""
        self._settle()
        self._steps.pop()
        if self._steps:  # what was done within it is not its own
            self._steps[-1].look()
        unreported, self._unreported = self._unreported, []
        for report in unreported:
            report()

    def _settle(self) -> None:
        """Put what has changed down to the innermost step."""
        for step in self._steps[-1:]:
            for module, name in step.changes():
                self._note(step, module, name)

    def _note(self, step: Step, module: ModuleType, name: str) -> None:
        key = module.__name__, name
        first = self._changed.setdefault(key, (step.object_id, step.label))
        if first is not None and first[0] != step.object_id:
            self._changed[key] = None
            self._unreported.append(partial(_report, step, module, name, first[1]))


@define(eq=False)
class Step:
    """Around one step of an object's code."""

    shared: SharedGlobals
    cls: type
    object_id: str
    label: str
    _seen: list[tuple[ModuleType, Seen]] = field(factory=list, init=False)

    def __enter__(self) -> None:
        self.shared.begin(self)

    def __exit__(self, *error: object) -> None:
        self.shared.end()

    def look(self) -> None:
        """What is from now on changed is the step's doing."""
        self._seen = [(module, _look(module)) for module in _modules_of(self.cls)]

    def changes(self) -> list[tuple[ModuleType, str]]:
        found = []
        for module, before in self._seen:
            after = _look(module)
            for name in before.keys() | after.keys():
                old, new = before.get(name), after.get(name)
                if old is None or new is None or old[0] is not new[0] or old[1] != new[1]:
                    found.append((module, name))
        return found


def _modules_of(cls: type) -> list[ModuleType]:
    names = {base.__module__ for base in cls.__mro__}
    return [
        sys.modules[name]
        for name in sorted(names)
        if name in sys.modules and name.partition(".")[0] not in {"durable", "builtins"}
    ]


def _look(module: ModuleType) -> Seen:
    return {
        name: (value, len(value) if type(value) in PLAIN else 0)
        for name, value in vars(module).items()
        if not name.startswith("__")
    }


def _report(step: Step, module: ModuleType, name: str, first: str) -> None:
    warnings.warn_explicit(
        f"the global {name!r} of the module {module.__name__} was changed by {first}, and now by "
        f"{step.label}: what objects share in memory goes with the process, and no gate guards "
        f"it. Keep it in storage, or in an object of its own",
        RuntimeWarning,
        module.__file__ or module.__name__,
        _line_of(step.cls, module, name),
        registry={},
    )


def _line_of(cls: type, module: ModuleType, name: str) -> int:
    """The first line of the class, or of a function beside it, that speaks of the global."""
    for owner in (*cls.__mro__, module):
        for value in vars(owner).values():
            function = getattr(value, "__func__", value)
            if isinstance(function, FunctionType) and function.__globals__ is vars(module):
                line = _line_in(function.__code__, name)
                if line is not None:
                    return line
    return 1


def _line_in(code: CodeType, name: str) -> int | None:
    for found in dis.get_instructions(code):
        if found.argval == name and found.opname in _MENTIONS and found.positions is not None:
            return found.positions.lineno
    for nested in code.co_consts:
        if isinstance(nested, CodeType) and (line := _line_in(nested, name)) is not None:
            return line
    return None
