"""The classes of values that an object class declares: `values = [Order, Status]` in its body, and
those in the annotations of its methods, with what their fields are made of.

Rule: a stored value names a class, and only a declared one is ever made of it. No byte on the disk
chooses code to run.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from .instances import KINDS, Apart, CannotMake, Content, StoredInstance, shape_of
from .storage_errors import UnreadableValue
from .values import Refusal

HOOK: Final = "__durable_read__"
"""A class method of a value's class: receives the stored content, and returns today's."""


class Declared:
    """The classes whose instances one object class may store, by their names in the store."""

    __slots__ = ("_ambiguous", "_class_of", "_name_of", "_owner")

    def __init__(self, owner: type) -> None:
        self._owner = owner
        self._name_of: dict[type, str] | None = None  # until it is needed
        self._class_of: dict[str, type] = {}
        self._ambiguous: set[str] = set()

    def take(self, leaf: Any) -> object | None:
        """What is stored for *leaf*; a Refusal if its class is not declared, None if it is not an
        instance of an author's class."""
        cls: type = type(leaf)
        shape = shape_of(cls)
        if shape is None:
            return Refusal() if cls is StoredInstance else None
        name = self._names().get(cls)
        if name is None:
            return Refusal(self._why_not(cls))
        content = shape.content(leaf)
        if not isinstance(content, dict):
            return StoredInstance(name, content)
        unset = shape.unset(leaf)
        return Apart(content, lambda parts: StoredInstance(name, parts, unset))

    def make(self, name: str, content: Content, unset: tuple[str, ...]) -> Any:
        """The instance that was stored. Raises UnreadableValue if its class is not declared, or has
        changed so that it cannot be made."""
        self._names()
        cls = self._class_of.get(name)
        if cls is None:
            raise UnreadableValue(
                f"a stored value is of a class called {name}, and {self._owner.__qualname__} "
                f"declares none of that name; if it has another name or place now, write `values = "
                f'{{"{name}": …}}` in {self._owner.__qualname__}'
            )
        shape = shape_of(cls)
        assert shape is not None
        hook = getattr(cls, HOOK, None)
        try:
            return shape.make(content if hook is None else hook(content), unset)
        except UnreadableValue:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, CannotMake) else repr(error)
            raise UnreadableValue(f"a stored {name} cannot be made a {cls.__name__}: {why}") from (
                None if isinstance(error, CannotMake) else error
            )

    def _why_not(self, cls: type) -> str:
        owner, name = self._owner.__qualname__, cls.__name__
        if name_of(cls) in self._ambiguous:
            return (
                f"an instance of {_full_name(cls)} cannot be stored, since methods of {owner} name "
                f"another class that is called {name} too; say which is which: `values = "
                f'{{"{name}": …, "Other{name}": …}}` in {owner}'
            )
        return (
            f"an instance of {_full_name(cls)} cannot be stored, since {owner} does not declare "
            f"the class; write `values = [{name}]` in {owner}, or annotate a method of it with "
            f"{name}"
        )

    def _names(self) -> dict[type, str]:
        names = self._name_of
        if names is None:
            names = self._name_of = self._find()
        return names

    def _find(self) -> dict[type, str]:
        names: dict[type, str] = {}
        for name, cls in said_by(self._owner):
            self._class_of[name] = cls
            names.setdefault(cls, name)
        found: dict[str, list[type]] = {}
        for cls in _met([*names, *_in_methods(self._owner)]):
            if cls not in names:
                found.setdefault(name_of(cls), []).append(cls)
        for name, classes in found.items():
            if len(classes) > 1 or name in self._class_of:
                self._ambiguous.add(name)
            else:
                self._class_of[name] = classes[0]
                names[classes[0]] = name
        return names


def said_by(owner: type) -> Iterator[tuple[str, type]]:
    """The entries of `values` of the class and of its bases. Raises TypeError for invalid ones."""
    seen: dict[str, type] = {}
    for base in owner.__mro__:
        values = vars(base).get("values")
        if not isinstance(values, list | tuple | set | frozenset | Mapping):
            continue  # perhaps a method of the author's
        where = f"values of {base.__qualname__}"
        pairs = values.items() if isinstance(values, Mapping) else [(None, cls) for cls in values]
        for name, cls in pairs:
            if not isinstance(cls, type) or shape_of(cls) is None:
                raise TypeError(f"{where} are classes, each a {KINDS}; {cls!r} is none")
            name = name_of(cls) if name is None else name
            if not isinstance(name, str) or not name:
                raise TypeError(f"{where}: {name!r} is no name of a class")
            if seen.setdefault(name, cls) is not cls:
                raise TypeError(
                    f"{where}: two classes are called {name}; give them names of their own, which "
                    f'are what is stored: values = {{"{name}": …, "Other{name}": …}}'
                )
            yield name, cls


def name_of(cls: type) -> str:
    """The name of *cls* in the store: without its module, so that it may move."""
    return cls.__qualname__.rpartition("<locals>.")[2]


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _in_methods(owner: type) -> Iterator[Any]:
    """All annotations of the methods of *owner*."""
    for base in owner.__mro__:
        for found in vars(base).values():
            function = inspect.unwrap(getattr(found, "__func__", found))
            if isinstance(function, types.FunctionType):
                yield from hints_of(function, vars(base)).values()


def hints_of(thing: Any, local: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The annotations of a function or a class, evaluated; those that cannot be are left out."""
    local = dict(local or {})
    try:
        return typing.get_type_hints(thing, localns=local)
    except Exception:  # one of them uses a name that only type checkers see
        module = sys.modules.get(thing.__module__)
        known = getattr(thing, "__globals__", None) or vars(module or types)
        return {
            name: hint
            for name, written in _annotations(thing).items()
            if (hint := _evaluated(written, known, local)) is not None
        }


def _annotations(thing: Any) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = inspect.get_annotations(thing)
    except Exception:
        return {}
    return found


def _evaluated(written: Any, known: dict[str, Any], local: dict[str, Any]) -> Any:
    holder: Any = types.SimpleNamespace(__annotations__={"it": written})
    try:
        return typing.get_type_hints(holder, known, local)["it"]
    except Exception:
        return None


def _met(hints: Iterable[Any]) -> Iterator[type]:
    """The classes of values that are in *hints*, and those in the fields of these, each once."""
    seen: set[int] = set()
    to_see = list(hints)
    while to_see:
        hint = to_see.pop()
        if id(hint) in seen:
            continue
        seen.add(id(hint))
        to_see += _inside(hint)
        if isinstance(hint, type):
            shape = shape_of(hint)
            if shape is not None:
                yield hint
                to_see += (shape.hints() or hints_of(hint)).values()


def _inside(hint: Any) -> Iterator[Any]:
    yield from (typing.get_origin(hint), *typing.get_args(hint))
    if isinstance(hint, list):  # the arguments of a Callable
        yield from hint
    # A NewType, an alias made by `type`, a type variable.
    for name in ("__supertype__", "__value__", "__bound__"):
        try:
            further = getattr(hint, name, None)
        except Exception:  # it is evaluated only now
            continue
        if further is not None:
            yield further
    yield from getattr(hint, "__constraints__", ())


Make: TypeAlias = Callable[[str, Content, tuple[str, ...]], Any]
"""Makes an instance by the name of its class, its content and its unset fields."""
