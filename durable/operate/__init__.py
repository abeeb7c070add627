"""Operating stores from Python: look into one, carry objects from one to another, copy, check.

    from durable import operate

    with operate.look("state") as store:
        for found in store.objects("Counter", prefix="page "):
            print(found.name, dict(store.items(found)))

Functions that only look neither write nor wake an object, and the owner of the store need not stop.
The owner itself passes its runtime, any other process the folder. A change of an object is made by
the program that has the store, or by this one if none has. The command line is made of these.
"""

from __future__ import annotations

import os

from durable._engine.codec import MsgpackCodec
from durable._engine.engine import Engine
from durable._engine.measures import Measures
from durable._engine.problem import Problem
from durable._engine.view import MomentLost
from durable._engine.whole import WholeStore
from durable._model.instances import StoredInstance
from durable._runtime.engines import check_database, is_url
from durable._runtime.runtime import Runtime
from durable._runtime.store_files import check_folder, check_open, check_shards, shards_of

from .changing import Refused, call, delete, put
from .copying import copy
from .export_file import NotAnExport
from .exporting import Carried, export
from .found import DamagedObject, Found, StoredAlarm, StoredClass, UnknownObject, Unreadable, Weight
from .histories import (
    MISSING,
    Changed,
    Chapter,
    History,
    NoHistory,
    changes_between,
    history,
)
from .importing import Existing, ObjectExists, import_file
from .in_memory import InMemory, Rung, Socket, abort, evict, in_memory, run_alarm
from .json_values import NotInFormat, from_json, to_json
from .looking import Store, look
from .parts import part_of
from .peers import peers
from .restoring import fork, restore
from .watching import NotRunning, Watching, events, tops


def _whole(engine: Engine) -> WholeStore:
    assert isinstance(engine, WholeStore)
    return engine


def check(store: str | os.PathLike[str] | Runtime, *, values: bool = True) -> list[Problem]:
    """All problems of the store in a folder, or of an open runtime's; reads all of it, so call it
    in a thread. *values*: decode them too, by the library's codec or the runtime's; else only their
    checksums are compared.

    For a store in a database, given by its URL, this includes settings of its server that may lose
    commits. A page that the disk cannot read is reported, and ends the check. Raises StoreDamaged,
    FormatTooNew or an OSError if the store cannot be opened.
    """
    if isinstance(store, Runtime):
        codec = store._services.codec
        if store._is_of_shards:
            return check_shards(_whole(store._engine), values=values, codec=codec)
        return check_open(store._engine, values=values, codec=codec)
    path = os.fspath(store)
    if is_url(path):
        return check_database(path, MsgpackCodec().decode if values else None)
    engine = shards_of(store)
    if engine is not None:
        return check_shards(engine, values=values, codec=None)
    return check_folder(store, values=values)


__all__ = [
    "MISSING",
    "Changed",
    "Chapter",
    "History",
    "NoHistory",
    "changes_between",
    "fork",
    "history",
    "restore",
    "Carried",
    "DamagedObject",
    "Existing",
    "Found",
    "InMemory",
    "Measures",
    "MomentLost",
    "NotAnExport",
    "NotInFormat",
    "NotRunning",
    "ObjectExists",
    "Problem",
    "Refused",
    "Rung",
    "Socket",
    "Store",
    "StoredAlarm",
    "StoredClass",
    "StoredInstance",
    "UnknownObject",
    "Unreadable",
    "Watching",
    "Weight",
    "abort",
    "call",
    "check",
    "copy",
    "delete",
    "events",
    "evict",
    "export",
    "from_json",
    "import_file",
    "in_memory",
    "look",
    "part_of",
    "peers",
    "put",
    "run_alarm",
    "to_json",
    "tops",
]
