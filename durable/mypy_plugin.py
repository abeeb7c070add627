"""A mypy plugin by which `Stub[T]` knows the public methods of `T`.

    [tool.mypy]
    plugins = ["durable.mypy_plugin"]

Rule: what the plugin accepts is what a stub accepts when the program runs (`rpc_method`), and a
stub's method has the arguments of the class's own; only what it answers differs: an `Answer`, or a
`Stream` of an async generator's items. Without the plugin a stub's methods are of type Any.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mypy.checker import TypeChecker
from mypy.errorcodes import ATTR_DEFINED
from mypy.expandtype import expand_type_by_instance
from mypy.maptype import map_instance_to_supertype
from mypy.nodes import Decorator, FuncDef, OverloadedFuncDef, SymbolNode, TypeInfo, Var
from mypy.plugin import AttributeContext, Plugin
from mypy.typeops import bind_self, function_type
from mypy.types import (
    AnyType,
    CallableType,
    FunctionLike,
    Instance,
    Overloaded,
    Type,
    TypeOfAny,
    TypeVarType,
    get_proper_type,
)

from durable._border.durable_object import HANDLERS

STUB = "durable._runtime.stub.Stub"
BASE = "durable._border.durable_object.DurableObject"
ANSWER = ("durable._gates.futures", "Answer")
STREAM = ("durable._border.streams", "Stream")
ASYNC_ITERATORS = frozenset(
    {"typing.AsyncGenerator", "typing.AsyncIterator", "typing.AsyncIterable"}
)


def plugin(version: str) -> type[Plugin]:
    """What mypy asks a plugin's module for."""
    return StubPlugin


class StubPlugin(Plugin):
    """Answers what the attributes of a `Stub` are that it does not declare itself."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        owner, _, name = fullname.rpartition(".")
        return partial(stub_attribute, name) if owner == STUB else None


def stub_attribute(name: str, asked: AttributeContext) -> Type:
    """The type of `stub.name`, or an error at the place that asks for it."""
    stub = get_proper_type(asked.type)
    checker = asked.api
    if not isinstance(stub, Instance) or not isinstance(checker, TypeChecker):
        return asked.default_attr_type
    cls = _class_of(stub)
    if cls is None or stub.type.get(name) is not None:
        return asked.default_attr_type
    found = None if name.startswith("_") or name in HANDLERS else _method(cls, name)
    if found is None:
        asked.api.fail(
            f'"Stub[{cls.type.name}]" has no method "{name}": {_why_not(cls, name)}',
            asked.context,
            code=ATTR_DEFINED,
        )
        return AnyType(TypeOfAny.from_error)
    owner, node = found
    declared = _signature(node, checker)
    if declared is None:
        return AnyType(TypeOfAny.unannotated)
    is_generator = _is_async_generator(node)
    bound = _bound(declared, node, owner, cls)
    if isinstance(bound, Overloaded):
        return Overloaded([_as_called(item, is_generator, checker) for item in bound.items])
    assert isinstance(bound, CallableType)
    return _as_called(bound, is_generator, checker)


def _class_of(stub: Instance) -> Instance | None:
    """The T of a `Stub[T]`, if it is known."""
    cls = get_proper_type(stub.args[0])
    if isinstance(cls, TypeVarType):
        cls = get_proper_type(cls.upper_bound)
    return cls if isinstance(cls, Instance) else None


def _method(cls: Instance, name: str) -> tuple[TypeInfo, SymbolNode] | None:
    """The public method *name* and the class that defines it. As `rpc_method` finds it."""
    for owner in cls.type.mro:
        if owner.fullname in {BASE, "builtins.object"}:
            continue
        symbol = owner.names.get(name)
        if symbol is None or symbol.implicit or symbol.node is None:
            continue
        node = symbol.node
        if isinstance(node, Var):
            is_method = node.is_initialized_in_class and isinstance(
                get_proper_type(node.type), FunctionLike
            )
        elif isinstance(node, Decorator):
            is_method = not node.var.is_property and _may_be_called(node.var.type)
        elif isinstance(node, OverloadedFuncDef):
            is_method = not node.is_property
        else:
            is_method = isinstance(node, FuncDef)
        return (owner, node) if is_method else None
    return None


def _may_be_called(kind: Type | None) -> bool:
    """Whether a decorator has left something that can be called; `cached_property` has not."""
    kind = get_proper_type(kind)
    return not isinstance(kind, Instance) or kind.type.get("__call__") is not None


def _why_not(cls: Instance, name: str) -> str:
    if name in HANDLERS:
        return "the handlers are called by the runtime, not through a stub"
    if name.startswith("_"):
        return "names with a leading underscore are not called through a stub"
    if cls.type.get(name) is not None:
        return f"{cls.type.name}.{name} is no method of the author's"
    return f"{cls.type.name} does not define it"


def _signature(node: SymbolNode, checker: TypeChecker) -> FunctionLike | None:
    declared: Type | None
    if isinstance(node, FuncDef | OverloadedFuncDef):
        declared = function_type(node, checker.named_type("builtins.function"))
    elif isinstance(node, Decorator):
        declared = node.var.type
        if declared is None:
            checker.handle_cannot_determine_type(node.name, node)
    else:
        assert isinstance(node, Var)
        declared = node.type
    declared = get_proper_type(declared)
    return declared if isinstance(declared, FunctionLike) else None


def _bound(declared: FunctionLike, node: SymbolNode, owner: TypeInfo, cls: Instance) -> Type:
    """The signature without `self`, in terms of *cls*."""
    inner = node.var if isinstance(node, Decorator) else node
    is_static = (
        inner.is_staticmethod
        if isinstance(inner, Var)
        else isinstance(node, FuncDef | OverloadedFuncDef) and node.is_static
    )
    if not is_static:
        is_class = inner.is_classmethod if isinstance(inner, Var) else _is_class(node)
        declared = bind_self(declared, cls, is_classmethod=is_class)
    return get_proper_type(expand_type_by_instance(declared, map_instance_to_supertype(cls, owner)))


def _is_class(node: SymbolNode) -> bool:
    return isinstance(node, FuncDef | OverloadedFuncDef) and node.is_class


def _is_async_generator(node: SymbolNode) -> bool:
    if isinstance(node, Decorator):
        node = node.func
    return isinstance(node, FuncDef) and node.is_async_generator


def _as_called(method: CallableType, is_generator: bool, checker: TypeChecker) -> CallableType:
    """*method*, answering what a call through a stub answers."""
    answer = get_proper_type(method.ret_type)
    if is_generator and isinstance(answer, Instance) and answer.type.fullname in ASYNC_ITERATORS:
        return method.copy_modified(ret_type=_instance(STREAM, answer.args[0], checker))
    value: Type = answer
    if isinstance(answer, Instance) and answer.type.has_base("typing.Awaitable"):
        awaitable = next(base for base in answer.type.mro if base.fullname == "typing.Awaitable")
        value = map_instance_to_supertype(answer, awaitable).args[0]
    return method.copy_modified(ret_type=_instance(ANSWER, value, checker))


def _instance(where: tuple[str, str], argument: Type, checker: TypeChecker) -> Instance:
    module, name = where
    node = checker.modules[module].names[name].node
    assert isinstance(node, TypeInfo)
    return Instance(node, [argument])
