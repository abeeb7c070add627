"""Instances of authors' classes: how one is taken apart, and put together again.

Five kinds of classes describe what their instances are made of: enums, NamedTuples, dataclasses,
attrs classes and pydantic models.

Rule: an instance is put together without the `__init__` of its class, whose converters have run
once. Missing fields get their defaults, `__post_init__` runs for what a class derives, and then the
fields are what they were.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from attrs import define, frozen

Content: TypeAlias = dict[str, Any] | str | list[Any]
"""An instance's fields; for an enum the name of the member; for a Flag those of its bits."""

T = TypeVar("T")

KINDS: Final = "dataclass, attrs class, NamedTuple, enum or pydantic model"

_PACKAGE = __name__.partition(".")[0]
_SHAPES_REMEMBERED = 1_024
_CACHED_HASH = "_attrs_cached_hash"


class CannotMake(ValueError):
    """The stored content of an instance does not fit its class."""


@frozen(eq=False)
class Shape:
    """The structure of a class's instances."""

    cls: type[Any]

    def content(self, value: Any) -> Content:
        """The content of *value*, uncopied."""
        raise NotImplementedError

    def unset(self, value: Any) -> tuple[str, ...]:
        """The fields that were given no value, if the class remembers them."""
        return ()

    def make(self, content: Content, unset: Iterable[str] = ()) -> Any:
        """The instance with *content*. Raises CannotMake if that does not fit."""
        raise NotImplementedError

    def hints(self) -> Mapping[str, Any]:
        """The class's own description of its fields in place of annotations."""
        return {}


@frozen(eq=False)
class _EnumShape(Shape):
    def content(self, value: Any) -> Content:
        if not isinstance(value, Flag):
            name: str = value.name
            return name
        bits: list[str | int] = [str(bit.name) for bit in value]
        rest = value.value & ~sum(bit.value for bit in value)
        return [*bits, rest] if rest else [*bits]

    def make(self, content: Content, unset: Iterable[str] = ()) -> Any:
        if isinstance(content, str):
            return self._member(content)
        if not issubclass(self.cls, Flag) or not isinstance(content, list):
            raise CannotMake("it is no enum, which the class is now")
        bits = [self._member(bit).value if isinstance(bit, str) else bit for bit in content]
        value = 0
        for bit in bits:
            value |= bit
        return self.cls(value)

    def _member(self, name: str) -> Any:
        member = self.cls.__members__.get(name)
        if member is None:
            raise CannotMake(
                f"it is the member {name}, which is there no more; an alias keeps an old name"
            )
        return member


@frozen(eq=False)
class _FieldsShape(Shape):
    """A class with named fields."""

    names: tuple[str, ...]
    # How to get the value of a missing field, given the instance; for fields that have one.
    defaults: Mapping[str, Callable[[Any], Any]]

    def content(self, value: Any) -> Content:
        return {name: getattr(value, name) for name in self.names if hasattr(value, name)}

    def make(self, content: Content, unset: Iterable[str] = ()) -> Any:
        if not isinstance(content, dict):
            raise CannotMake("it is an enum's, which the class is no more")
        return self._make({name: content[name] for name in self.names if name in content})

    def _make(self, fields: dict[str, Any]) -> Any:
        cls: Any = self.cls
        made = cls.__new__(cls)
        put = object.__setattr__
        for name in self.names:
            if name in fields:
                put(made, name, fields[name])
            elif name in self.defaults:
                put(made, name, self.defaults[name](made))
            else:
                self._refuse_without(name)
        if self._derive(made):
            for name, value in fields.items():
                put(made, name, value)
        return made

    def _refuse_without(self, name: str) -> None:
        raise CannotMake(
            f"it has no {name}, for which {self.cls.__name__} has no default; give it one, or the "
            f"class a __durable_read__"
        )

    def _derive(self, made: Any) -> bool:
        """Let the class compute what it derives from its fields. Returns whether it may have."""
        return False


@frozen(eq=False)
class _TupleShape(_FieldsShape):
    def _make(self, fields: dict[str, Any]) -> Any:
        items = []
        for name in self.names:
            if name not in fields and name not in self.defaults:
                self._refuse_without(name)
            items.append(fields[name] if name in fields else self.defaults[name](None))
        return tuple.__new__(self.cls, items)


@frozen(eq=False)
class _DataclassShape(_FieldsShape):
    # Those of its InitVars; None if one has no default, so that nothing can be derived.
    init_vars: tuple[Any, ...] | None

    def _derive(self, made: Any) -> bool:
        derive = getattr(self.cls, "__post_init__", None)
        if derive is None or self.init_vars is None:
            return False
        derive(made, *self.init_vars)
        return True


@frozen(eq=False)
class _AttrsShape(_FieldsShape):
    caches_hash: bool

    def _derive(self, made: Any) -> bool:
        if self.caches_hash:
            object.__setattr__(made, _CACHED_HASH, None)
        derive = getattr(self.cls, "__attrs_post_init__", None)
        if derive is None:
            return False
        derive(made)
        return True


@frozen(eq=False)
class _ModelShape(Shape):
    def content(self, value: Any) -> Content:
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}

    def unset(self, value: Any) -> tuple[str, ...]:
        return tuple(name for name in self._fields if name not in value.__pydantic_fields_set__)

    def make(self, content: Content, unset: Iterable[str] = ()) -> Any:
        if not isinstance(content, dict):
            raise CannotMake("it is an enum's, which the class is no more")
        for name, described in self._fields.items():
            if name not in content and described.is_required():
                raise CannotMake(
                    f"it has no {name}, for which {self.cls.__name__} has no default; give it one, "
                    f"or the class a __durable_read__"
                )
        given = set(content).difference(unset)
        made: Any = self.cls.model_construct(_fields_set=given, **content)
        # Whatever aliases, and model_post_init, have made of them.
        made.__dict__.update({name: content[name] for name in made.__dict__ if name in content})
        return made

    def hints(self) -> Mapping[str, Any]:
        return {name: described.annotation for name, described in self._fields.items()}

    @property
    def _fields(self) -> Mapping[str, Any]:
        fields: Mapping[str, Any] = self.cls.model_fields
        return fields


# Classes of the library's own that are values, as authors' classes are.
_values_of_ours: set[type] = set()


def is_value(cls: type[T]) -> type[T]:
    """Let instances of *cls*, a class of the library's own, be sent and stored."""
    _values_of_ours.add(cls)
    return cls


@lru_cache(_SHAPES_REMEMBERED)
def shape_of(cls: type) -> Shape | None:
    """The structure of instances of *cls*; None if it does not describe them."""
    is_ours = cls.__module__.partition(".")[0] == _PACKAGE and cls not in _values_of_ours
    if is_ours or issubclass(cls, BaseException):
        return None
    if issubclass(cls, Enum):
        return _EnumShape(cls)
    if issubclass(cls, tuple):
        return _tuple_shape(cls) if hasattr(cls, "_fields") else None
    if issubclass(cls, str | int | float | bytes | list | dict | set | frozenset):
        return None  # it may contain more than its fields
    if dataclasses.is_dataclass(cls):
        return _dataclass_shape(cls)
    if attrs.has(cls):
        return _attrs_shape(cls)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, getattr(pydantic, "BaseModel", ())):
        return _ModelShape(cls) if hasattr(cls, "model_fields") else None  # not those of version 1
    return None


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda made: value


def _tuple_shape(cls: Any) -> Shape:
    defaults = {name: _always(value) for name, value in cls._field_defaults.items()}
    return _TupleShape(cls, tuple(cls._fields), defaults)


def _dataclass_shape(cls: Any) -> Shape:
    fields = dataclasses.fields(cls)
    defaults: dict[str, Callable[[Any], Any]] = {}
    for each in fields:
        if each.default is not dataclasses.MISSING:
            defaults[each.name] = _always(each.default)
        elif each.default_factory is not dataclasses.MISSING:
            defaults[each.name] = _calling(each.default_factory)
        elif not each.init:
            defaults[each.name] = _always(None)  # until __post_init__ sets it
    init_vars = [
        each.default
        for each in cls.__dataclass_fields__.values()
        if each._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
    ]
    can_derive = dataclasses.MISSING not in init_vars
    names = tuple(each.name for each in fields)
    return _DataclassShape(cls, names, defaults, tuple(init_vars) if can_derive else None)


def _calling(factory: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda made: factory()


def _attrs_shape(cls: Any) -> Shape:
    fields = attrs.fields(cls)
    defaults: dict[str, Callable[[Any], Any]] = {}
    for each in fields:
        default: Any = each.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            factory = default.factory
            defaults[each.name] = factory if default.takes_self else _calling(factory)
        elif default is not attrs.NOTHING:
            defaults[each.name] = _always(default)
        elif not each.init:
            defaults[each.name] = _always(None)  # until __attrs_post_init__ sets it
    hashability = getattr(getattr(cls, "__attrs_props__", None), "hashability", None)
    caches_hash = hasattr(cls, _CACHED_HASH) or getattr(hashability, "name", "").endswith("CACHED")
    return _AttrsShape(cls, tuple(each.name for each in fields), defaults, caches_hash)


@define(eq=False)
class Apart:
    """An instance taken apart: its parts are copied, and then put *together*."""

    parts: dict[str, Any]
    together: Callable[[dict[str, Any]], Any]


def take_apart(value: Any) -> Any:
    """How to copy *value*, an instance of an author's class; None if it is not one."""
    cls: type = type(value)
    shape = shape_of(cls)
    if shape is None:
        return None
    content = shape.content(value)
    if not isinstance(content, dict):
        return value  # a member of an enum is one for ever
    unset = shape.unset(value)
    return Apart(content, lambda parts: shape.make(parts, unset))


@define(eq=True)
class StoredInstance:
    """An instance as it is stored, when its class is not available: in exports, and in listings.

    *content*: an instance's fields; for an enum the name of the member; for a Flag those of its
    bits. *unset*: the fields of a pydantic model that were left at their defaults.
    """

    name: str
    content: Content
    unset: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        match self.content:
            case str():
                return f"{self.name}.{self.content}"
            case dict():
                fields = ", ".join(f"{name}={part!r}" for name, part in self.content.items())
                return f"{self.name}({fields})"
            case _:
                return f"{self.name}({'|'.join(map(str, self.content))})"
