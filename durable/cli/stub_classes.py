"""`durable types MODULE`: the stubs of a module's classes as classes, for type checkers.

Rule: the signatures are copied from the source, word for word; only the return types differ, as
they do for a stub: an `Answer`, or a `Stream` of a generator's items.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from attrs import define, field

from durable._border.durable_object import DurableObject, rpc_method

HEADER = (
    '"""Stubs of the objects of {name}, for type checkers; written by `durable types {name}`."""'
)

_ITERATORS = frozenset({"AsyncIterator", "AsyncGenerator", "AsyncIterable"})
_AWAITABLES = frozenset({"Awaitable", "Coroutine", "Answer", "Future", "Task"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@click.command()
@click.argument("module")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE in place of the output.")
def types(module: str, output: str | None) -> None:
    """Write stub classes for the classes of MODULE."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(f"there is no module {module!r} here") from None
    text = stub_classes(imported)
    if output is None:
        click.echo(text, nl=False)
    else:
        Path(output).write_text(text, encoding="utf-8")


def stub_classes(module: ModuleType) -> str:
    """The text of a module with a stub and a namespace of each class of objects in *module*."""
    classes = [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type)
        and issubclass(cls, DurableObject)
        and cls.__module__ == module.__name__
    ]
    if not classes:
        raise ValueError(f"the module {module.__name__} has no class of objects of its own")
    imports = _Imports()
    bodies = [line for cls in classes for line in _of_class(cls, imports)]
    head = [HEADER.format(name=module.__name__), "", "from __future__ import annotations", ""]
    return "\n".join([*head, *imports.lines(), *bodies]) + "\n"


def _of_class(cls: type, imports: _Imports) -> Iterator[str]:
    imports.add("durable", "import durable")
    imports.add(cls.__name__, f"from {cls.__module__} import {cls.__name__}")
    parameters = [parameter.__name__ for parameter in getattr(cls, "__parameters__", ())]
    for name in parameters:
        imports.find(name, _Source.of(cls))
    name, arguments = cls.__name__, f"[{', '.join(parameters)}]" if parameters else ""
    generic = ""
    if parameters:
        imports.add("Generic", "from typing import Generic")
        generic = f", Generic{arguments}"
    yield from ("", "", f"class {name}Stub(durable.Stub[{name}{arguments}]{generic}):")
    yield f'    """How {name} is called."""'
    for method in _public_methods(cls):
        yield ""
        yield from _of_method(cls, method, imports)
    stub = f"{name}Stub{arguments}"
    yield from ("", "", f"class {name}Namespace(durable.Namespace[{name}{arguments}]{generic}):")
    yield f'    """Where {name} is found."""'
    for signature in ("get(self, id: durable.ObjectId)", "get_by_name(self, name: str)"):
        yield ""
        yield f"    def {signature} -> {stub}:"
        yield "        raise NotImplementedError"


def _public_methods(cls: type) -> Iterable[str]:
    """The methods by where they are defined, those of the bases first."""
    names = [name for owner in reversed(cls.__mro__) for name in vars(owner)]
    return [name for name in dict.fromkeys(names) if rpc_method(cls, name) is not None]


def _of_method(cls: type, name: str, imports: _Imports) -> Iterator[str]:
    owner = next(base for base in cls.__mro__ if name in vars(base))
    source = _Source.of(owner)
    found = rpc_method(cls, name)
    # An alias has the name of the function that it stands for.
    functions = source.functions(name) or source.functions(getattr(found, "__name__", ""))
    overloads = [function for function in functions if _has(function, "overload")]
    for function in overloads or functions[-1:]:
        if overloads:
            imports.add("overload", "from typing import overload")
            yield "    @overload"
        written = _Signature(function, source, imports, found)
        yield f"    def {name}({written.arguments()}) -> {written.returned()}:" + (
            " ..." if overloads else ""
        )
        if not overloads:
            yield "        raise NotImplementedError"
    if overloads or not functions:
        imports.add("Any", "from typing import Any")
        yield f"    def {name}(self, *args: Any, **kwargs: Any) -> Any:"
        yield "        raise NotImplementedError"


@define
class _Source:
    """The source of a class."""

    cls: type
    module: ModuleType
    tree: ast.Module
    node: ast.ClassDef | None

    @classmethod
    def of(cls, owner: type) -> _Source:
        module = sys.modules[owner.__module__]
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError, SyntaxError):
            tree = ast.Module([], [])
        body: list[ast.stmt] = tree.body
        node: ast.ClassDef | None = None
        for part in owner.__qualname__.split("."):
            node = next(
                (each for each in body if isinstance(each, ast.ClassDef) and each.name == part),
                None,
            )
            body = node.body if node is not None else []
        return cls(owner, module, tree, node)

    def functions(self, name: str) -> list[_Function]:
        body = self.node.body if self.node is not None else []
        return [each for each in body if isinstance(each, _Function) and each.name == name]

    def import_of(self, name: str) -> str | None:
        """The statement that imports *name* into the module; None if the module defines it."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                if bound == name:
                    as_name = f" as {alias.asname}" if alias.asname else ""
                    if isinstance(node, ast.Import):
                        return f"import {alias.name}{as_name}"
                    return f"from {self._absolute(node)} import {alias.name}{as_name}"
        return None

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.__name__.split(".")
        if not hasattr(self.module, "__path__"):
            package.pop()
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])


@define
class _Imports:
    """The imports of the written module."""

    _by_name: dict[str, str] = field(factory=dict)

    def add(self, name: str, line: str) -> bool:
        """Import *name* by *line*; returns whether it means that in the written module."""
        return self._by_name.setdefault(name, line) == line

    def find(self, name: str, source: _Source) -> bool:
        """Import what *name* means in *source*."""
        if not hasattr(source.module, name) and hasattr(builtins, name):
            return True
        line = source.import_of(name)
        return self.add(name, line or f"from {source.module.__name__} import {name}")

    def lines(self) -> list[str]:
        return sorted(set(self._by_name.values()), key=lambda line: (line.startswith("from"), line))


@define
class _Signature:
    """A method of a class as a stub has it."""

    function: _Function
    source: _Source
    imports: _Imports
    found: Any

    def arguments(self) -> str:
        arguments = copy.deepcopy(self.function.args)
        first = arguments.posonlyargs or arguments.args
        if _has(self.function, "staticmethod"):
            first.insert(0, ast.arg("self"))
        first[0] = ast.arg("self")
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][1:]
        for each in (*every, arguments.vararg, arguments.kwarg):
            if each is not None:
                hint = each.annotation
                each.annotation = self._any() if hint is None else self._known(hint)
        arguments.defaults = [self._default(default) for default in arguments.defaults]
        arguments.kw_defaults = [
            None if default is None else self._default(default) for default in arguments.kw_defaults
        ]
        return ast.unparse(arguments)

    def returned(self) -> str:
        hint = self.function.returns
        if hint is None:
            hint = self._any()
        if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
            hint = ast.parse(hint.value, mode="eval").body
        head, items = _subscripted(hint)
        kind = "Answer"
        if inspect.isasyncgenfunction(self.found):
            kind, hint = "Stream", items[0] if head in _ITERATORS and items else self._any()
        elif isinstance(self.function, ast.FunctionDef) and head in _AWAITABLES and items:
            hint = items[-1]
        return f"durable.{kind}[{ast.unparse(self._known(hint))}]"

    def _default(self, default: ast.expr) -> ast.expr:
        names = _Names(self.source, self.imports, has_hints=False)
        known: ast.expr = names.visit(default)
        return ast.Constant(...) if names.is_lost else known

    def _any(self) -> ast.expr:
        self.imports.add("Any", "from typing import Any")
        return ast.Name("Any")

    def _known(self, hint: ast.expr) -> ast.expr:
        """*hint* in names that the written module imports."""
        names = _Names(self.source, self.imports, has_hints=True)
        known: ast.expr = names.visit(copy.deepcopy(hint))
        return self._any() if names.is_lost else known


class _Names(ast.NodeTransformer):
    """Replaces the names of an expression by those of the written module.

    With *has_hints* it is an annotation, in which a string is one too.
    """

    def __init__(self, source: _Source, imports: _Imports, *, has_hints: bool) -> None:
        self._has_hints = has_hints
        self._source = source
        self._imports = imports
        self.is_lost = False

    def visit_Name(self, node: ast.Name) -> ast.expr:
        owner = self._source.cls
        if node.id in vars(owner) and "." not in owner.__qualname__:
            self._imports.find(owner.__name__, self._source)
            return ast.Attribute(ast.Name(owner.__name__), node.id)
        if not self._imports.find(node.id, self._source):
            self.is_lost = True
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if _last_name(node.value) == "Literal":
            node.value = self.visit(node.value)
            return node
        self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not self._has_hints or not isinstance(node.value, str):
            return node
        try:
            written = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            self.is_lost = True
            return node
        known: ast.expr = self.visit(written)
        return known


def _has(function: _Function, decorator: str) -> bool:
    return any(_last_name(each) == decorator for each in function.decorator_list)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _subscripted(hint: ast.expr) -> tuple[str, list[ast.expr]]:
    """The name `B` and the contents of the brackets of `a.B[c, d]`."""
    if not isinstance(hint, ast.Subscript):
        return _last_name(hint), []
    inside = hint.slice
    return _last_name(hint.value), inside.elts if isinstance(inside, ast.Tuple) else [inside]
