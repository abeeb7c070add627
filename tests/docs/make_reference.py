"""Writes docs/reference.md: what stands above its mark by hand, below it by the docstrings.

    python tests/docs/make_reference.py

A test sees that every public name is there; the texts are refreshed by running this again.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import MemberDescriptorType, ModuleType
from typing import Any

import durable
import durable.observing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"
MARK = "<!-- From here on written by tests/docs/make_reference.py. -->"

SECTIONS: dict[str, tuple[str, ...]] = {
    "Opening": ("open", "open_config", "Runtime", "Env", "Statistics", "Migration"),
    "Objects": ("DurableObject", "State", "AlarmInfo", "Timers", "Timer"),
    "Storage": ("Storage", "KeyValues", "Transaction", "Codec"),
    "Calling": (
        *("Namespace", "StoredObject", "ObjectId", "Stub"),
        *("Answer", "Stream", "RemoteFunction"),
    ),
    "Messages": ("Request", "Response", "Signal"),
    "Sockets": ("WebSocket", "WebSocketPair"),
    "Processes of several machines": ("Peers", "PeersTls"),
    "Limits and time": ("Limits", "Clock", "SystemClock"),
}

# The modules that have a section of their own, for all that their `__all__` lists.
DOORS = (
    *("durable.testing", "durable.operate", "durable.observing", "durable.asgi"),
    "durable.blocking",
    "durable.workers",
    *("durable.httpx", "durable.otel", "durable.prometheus"),
)

# The classes that users call themselves.
CALLED = frozenset(
    {"open", "open_config", "open_worker", "Request", "Response", "VirtualClock", "Peers"}
    | {"ObjectTransport", "ConfirmedTransport", "Telemetry", "RuntimeCollector"}
)

# Members without an underscore that are for other parts of the library.
NOT_FOR_USERS: dict[str, frozenset[str]] = {
    "Answer": frozenset({"send", "throw", "close"}),
    "RemoteFunction": frozenset({"activation", "bind"}),
    "Migration": frozenset({"arrivals", "created_classes"}),
    "Runtime": frozenset({"add_class", "classes"}),
    "Faults": frozenset(
        {"after_commit", "before_commit", "before_read", "holds_commits", "holds_reads"}
        | {"is_read_stuck"}
    ),
}


def public_members(cls: type) -> list[str]:
    """The members of a class that users may use, in the order in which they are defined."""
    if issubclass(cls, BaseException | tuple):
        return []
    hidden = NOT_FOR_USERS.get(cls.__name__, frozenset())
    names: dict[str, None] = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.startswith("durable"):
            names |= dict.fromkeys([*getattr(owner, "__annotations__", {}), *vars(owner)])
    return [name for name in names if not name.startswith("_") and name not in hidden]


def groups() -> Iterator[tuple[str, ModuleType, list[str]]]:
    """Heading, module and names of each section, in order; every public name is in one."""
    left = [name for name in durable.__all__ if name not in sum(SECTIONS.values(), ())]
    for heading, names in SECTIONS.items():
        yield heading, durable, [name for name in names if name in durable.__all__]
    errors = [name for name in left if _is_error(getattr(durable, name))]
    more = [name for name in left if name not in errors]
    if more:
        yield "More", durable, more
    yield "Errors", durable, errors
    for door in DOORS:
        module = importlib.import_module(door)
        yield door, module, list(module.__all__)


def _is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def page() -> str:
    parts = [PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK]
    for heading, module, names in groups():
        parts.append(f"## {heading}")
        for name in names:
            parts.extend(entry(f"{module.__name__}.{name}", getattr(module, name)))
    return "\n\n".join(parts) + "\n"


def entry(full_name: str, thing: Any) -> Iterator[str]:
    yield f"### `{full_name}`"
    if not isinstance(thing, type) and not inspect.isroutine(thing):  # a number, or an alias
        name = full_name.rpartition(".")[2]
        yield f"`{name} = {f'{thing:,}' if isinstance(thing, int | float) else _plain(thing)}`"
        return
    if _has_own_call(thing):
        kind = "async " if inspect.iscoroutinefunction(thing) else ""
        yield f"`{kind}{full_name.rpartition('.')[2]}{_signature(thing)}`"
    yield from prose(thing.__doc__)
    if isinstance(thing, type):
        for name in public_members(thing):
            yield from member(thing, name)


def _plain(alias: Any) -> str:
    """A type as it is written, without the modules that its names come from."""
    written = repr(alias)
    if alias is not durable.observing.Event:
        written = written.replace(repr(durable.observing.Event), "Event")
    return re.sub(r"\b(?:\w+\.)+", "", written)


def member(cls: type, name: str) -> Iterator[str]:
    found = inspect.getattr_static(cls, name, None)
    function = getattr(found, "__func__", found)
    if inspect.isfunction(function):
        is_generator = inspect.isasyncgenfunction(function)
        kind = "async " if inspect.iscoroutinefunction(function) and not is_generator else ""
        yield f"#### `{kind}{name}{_signature(function)}`"
        yield from prose(function.__doc__)
        return
    annotated = (vars(owner).get("__annotations__", {}) for owner in cls.__mro__)
    declared: Any = next((types[name] for types in annotated if name in types), None)
    if isinstance(found, property) and found.fget is not None:
        declared = inspect.signature(found.fget).return_annotation
    if isinstance(declared, str):
        declared = re.sub(r"^Final\[(.*)\]$", r"\1", declared)
    default = ""
    if cls is durable.Limits:
        default = f" = {getattr(durable.Limits(), name):,}"
    yield f"#### `{name}{f': {declared}' if isinstance(declared, str) else ''}{default}`"
    is_documented = isinstance(found, property | MemberDescriptorType)
    yield from prose(inspect.getdoc(found) if is_documented else None)


def _has_own_call(thing: Any) -> bool:
    if not isinstance(thing, type):
        return True
    return thing.__name__ in CALLED


def _signature(function: Any) -> str:
    text = re.sub(r"(: |-> )(['\"])(.*?)\2", r"\1\3", str(inspect.signature(function)))
    text = re.sub(r"^\((self|cls)(, )?", "(", text)
    text = re.sub(r"<function .*? at \w+>", "...", text)
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text)  # a member of an enum
    return text.removesuffix(" -> None") if isinstance(function, type) else text


def prose(docstring: str | None) -> Iterator[str]:
    """Paragraphs, with a line for each sentence; indented examples as they are."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring or "")):
        if paragraph.startswith("    ") or not paragraph:
            if paragraph:
                yield paragraph
            continue
        joined = " ".join(line.strip() for line in paragraph.splitlines())
        yield re.sub(r"(?<=[.!?]) (?=[A-Z`*])", "\n", joined)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
