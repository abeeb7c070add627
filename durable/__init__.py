"""Cloudflare's Durable Object model as an embeddable Python library.

Named objects, one live instance each, single-threaded, with transactional storage in a folder
(LMDB) or in PostgreSQL, for any asyncio or Trio program. Subclass `DurableObject`, open a store,
call stubs:

    async with durable.open("state", bindings={"COUNTERS": Counter}) as runtime:
        print(await runtime.env.COUNTERS.get_by_name("front page").increment())
"""

from durable._border.alarm import AlarmInfo
from durable._border.ctx import State
from durable._border.durable_object import DurableObject
from durable._border.rpc import RemoteFunction
from durable._border.streams import Stream
from durable._border.websocket import WebSocketPair
from durable._deploy.migrations import Migration
from durable._engine.codec import Codec
from durable._gates.futures import Answer
from durable._model.clock import Clock, SystemClock
from durable._model.cluster_errors import ObjectSuperseded, StoreUnavailable
from durable._model.errors import (
    CommitFailed,
    Deadlock,
    DurableError,
    FormatTooNew,
    FormTooLarge,
    InternalError,
    InvalidConfig,
    InvalidForm,
    InvalidId,
    MessageTooLarge,
    MigrationConflict,
    MissingExtra,
    NoSuchMethod,
    ObjectAborted,
    ObjectOverloaded,
    ObjectReset,
    ObjectUnreachable,
    OnceConflict,
    RemoteError,
    ResultNotKept,
    RuntimeClosed,
    StoreDamaged,
    StoreFull,
    StoreInUse,
    TooManyWebSockets,
    UnknownClass,
    WebSocketClosed,
    WrongLoop,
)
from durable._model.forms import FormFile
from durable._model.ids import ObjectId
from durable._model.limits import Limits
from durable._model.messages import Request, Response
from durable._model.peers import Peers, PeersTls
from durable._model.retention import UnknownBookmark
from durable._model.signal import Signal
from durable._model.storage_errors import (
    KeyTooLarge,
    SqlConstraint,
    SqlError,
    SqlForbidden,
    TooManyKeys,
    TooManyTimers,
    TransactionOver,
    UnreadableValue,
    UnstorableValue,
    ValueTooLarge,
)
from durable._model.websocket import WebSocket
from durable._runtime.env import Env
from durable._runtime.namespace import Namespace, StoredObject
from durable._runtime.opening import open, open_config
from durable._runtime.peer_processes import PeerProcess
from durable._runtime.retrying import retry
from durable._runtime.runtime import Runtime
from durable._runtime.statistics import Statistics
from durable._runtime.stub import Stub
from durable._storage.kv import KeyValues
from durable._storage.storage import Storage
from durable._storage.timers import Timer, Timers
from durable._storage.transaction import Transaction

__version__ = "0.1.0"

__all__ = [
    "AlarmInfo",
    "Answer",
    "Clock",
    "Codec",
    "CommitFailed",
    "Deadlock",
    "DurableError",
    "DurableObject",
    "Env",
    "FormFile",
    "FormTooLarge",
    "FormatTooNew",
    "InternalError",
    "MissingExtra",
    "InvalidConfig",
    "InvalidForm",
    "InvalidId",
    "KeyTooLarge",
    "KeyValues",
    "Limits",
    "MessageTooLarge",
    "Migration",
    "MigrationConflict",
    "Namespace",
    "NoSuchMethod",
    "ObjectAborted",
    "ObjectId",
    "ObjectOverloaded",
    "ObjectReset",
    "ObjectSuperseded",
    "ObjectUnreachable",
    "PeerProcess",
    "Peers",
    "PeersTls",
    "RemoteError",
    "OnceConflict",
    "RemoteFunction",
    "Request",
    "Response",
    "ResultNotKept",
    "Signal",
    "Runtime",
    "RuntimeClosed",
    "SqlConstraint",
    "SqlError",
    "SqlForbidden",
    "State",
    "Statistics",
    "Storage",
    "StoreDamaged",
    "StoreFull",
    "StoreInUse",
    "StoreUnavailable",
    "StoredObject",
    "Stream",
    "Stub",
    "SystemClock",
    "Timer",
    "Timers",
    "TooManyKeys",
    "TooManyTimers",
    "TooManyWebSockets",
    "Transaction",
    "TransactionOver",
    "UnknownBookmark",
    "UnknownClass",
    "UnreadableValue",
    "UnstorableValue",
    "ValueTooLarge",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketPair",
    "WrongLoop",
    "open",
    "open_config",
    "retry",
]
