"""The commands that change objects: `put`, `delete`, `call`.

Each is an event of the object in the program that has the store, if one has; if none has, `put` and
`delete` write to the store themselves, or run the object's code if that is named.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

import anyio
import click

import durable
from durable import operate
from durable.operate.changing import call_order, delete_order, obey, put_order, takes_orders

from .environment_option import in_environment
from .plain_text import printable, say
from .printing import as_json, print_json

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def as_code(command: Decorated) -> Decorated:
    """The options that name the code of the objects, for when no program has the store."""
    app = click.option(
        "--app",
        metavar="MODULE[:APP]",
        help="Run the classes of this module, or this application of durable.asgi.",
    )
    config = click.option("--config", help="Run the classes of this configuration file.")
    return app(config(in_environment(command)))


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.argument("key")
@click.argument("value")
@as_code
@as_json
def put(
    folder: str,
    cls: str,
    name_or_id: str,
    key: str,
    value: str,
    app: str | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> None:
    """Store a value under a key of one object.

    VALUE is JSON, as `durable show --json` prints values; a text has quotes: '"text"'. The program
    that has the store stores it, as an event of the object. If none has, the key is written as it
    is, and no code of the object runs, unless --app or --config names it.
    """
    stored = _value(value, "VALUE")
    if runs_here(folder, app, config):
        order = put_order(cls, name_or_id, key, stored)
        anyio.run(obey_here, folder, app, config, environment, order)
    else:
        operate.put(folder, cls, name_or_id, key, stored)
    if is_json:
        print_json({"stored": key})


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.argument("key", required=False)
@click.option("--yes", is_flag=True, help="Do not ask before the deletion.")
@as_code
@as_json
def delete(
    folder: str,
    cls: str,
    name_or_id: str,
    key: str | None,
    yes: bool,
    app: str | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> int:
    """Delete a key of one object, or all of it.

    Without KEY all that the object has stored goes, its alarm too. It asks before, and the exit
    status is 1 if there was nothing to delete.
    """
    with operate.look(folder) as store:
        found = store.find(cls, name_or_id)
    who = f"the object {found.name!r}" if found.name is not None else f"the object {found.id}"
    what = f"all of {who}" if key is None else f"the key {key!r} of {who}"
    if not yes and not _confirms(f"This deletes {what} of {found.cls.label} for good. Go on?"):
        say("nothing was deleted", err=True)
        return 1
    if runs_here(folder, app, config):
        order = delete_order(cls, name_or_id, key)
        result = anyio.run(obey_here, folder, app, config, environment, order)
        was_there = True if key is None else bool(result)
    else:
        was_there = operate.delete(folder, cls, name_or_id, key)
    if is_json:
        print_json({"deleted": was_there})
    elif not was_there:
        say(f"there is no such key: {what}", err=True)
    return 0 if was_there else 1


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.argument("method")
@click.argument("arguments", metavar="[ARGS]", required=False)
@click.option("--once", metavar="KEY", help="Let calls with this key happen once, for a day.")
@as_code
@as_json
def call(
    folder: str,
    cls: str,
    name_or_id: str,
    method: str,
    arguments: str | None,
    once: str | None,
    app: str | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> None:
    """Call a method of one object, and print its result.

    ARGS are JSON: a list of arguments, or an object of arguments by name. The program that has the
    store makes the call; if none has, name the code of the classes by --app or --config.
    """
    given = [] if arguments is None else _value(arguments, "ARGS")
    if not isinstance(given, list | dict):
        raise click.UsageError("ARGS is a JSON list of arguments, or an object of them by name")
    args, kwargs = (given, {}) if isinstance(given, list) else ([], given)
    if runs_here(folder, app, config):
        order = call_order(cls, name_or_id, method, args, kwargs, once=once)
        result = anyio.run(obey_here, folder, app, config, environment, order)
    else:
        make = partial(operate.call, folder, cls, name_or_id, method, args, kwargs, once=once)
        result = _call(make)
    if is_json:
        print_json({"result": operate.to_json(result)})
    else:
        say(repr(result))


def _call(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except operate.NotRunning as error:
        error.add_note("Name it by --app MODULE, --app MODULE:APP or --config FILE.")
        raise


def _value(text: str, what: str) -> Any:
    try:
        return operate.from_json(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        hint = "; a text has quotes: '\"text\"'" if what == "VALUE" else ""
        raise click.UsageError(f"{what} is not JSON: {why}{hint}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _confirms(question: str) -> bool:
    """Whether a person answers yes; without a terminal, --yes must be given."""
    try:
        return click.confirm(printable(question), default=False, err=True)
    except click.Abort:
        return False


def runs_here(folder: str, app: str | None, config: str | None) -> bool:
    """Whether the code of the objects runs in this process: it is named, and no program that takes
    orders has the store."""
    if app is not None and config is not None:
        raise click.UsageError("give --app or --config, not both")
    with operate.look(folder):
        pass  # raises for a folder that is not a store, and must not become one
    return (app is not None or config is not None) and not takes_orders(folder)


async def obey_here(
    folder: str, app: str | None, config: str | None, environment: str | None, order: Any
) -> Any:
    """Open the store with its code, and carry out *order*."""
    async with _opened(folder, app, config, environment) as runtime:
        return await obey(runtime, order)


@asynccontextmanager
async def _opened(
    folder: str, app: str | None, config: str | None, environment: str | None
) -> AsyncIterator[durable.Runtime]:
    if config is not None:
        async with durable.open_config(config, path=folder, environment=environment) as runtime:
            yield runtime
        return
    assert app is not None
    name, _, attribute = app.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(f"there is no module {name!r}") from None
    if not attribute:
        classes = {
            cls.__name__: cls
            for cls in vars(module).values()
            if isinstance(cls, type)
            and issubclass(cls, durable.DurableObject)
            and cls.__module__ == module.__name__
        }
        async with durable.open(folder, bindings=classes) as runtime:
            yield runtime
        return
    application = getattr(module, attribute, None)
    if not hasattr(application, "open") or not hasattr(application, "aclose"):
        raise click.UsageError(f"{app} is not an application of durable.asgi")
    runtime = await application.open()  # type: ignore[union-attr]
    try:
        _check_same(app, runtime._path, folder)
        yield runtime
    finally:
        await application.aclose()  # type: ignore[union-attr]


def _check_same(app: str, opened: str, folder: str) -> None:
    if not os.path.samefile(opened, folder):
        raise click.UsageError(f"{app} opens the store {opened!r}, not {folder!r}")
