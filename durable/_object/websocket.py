"""The ends of web sockets that objects and programs hold: what they say goes through the gates.

A message leaves when all that its sender wrote before it is on disk. Messages of one end leave in
the order in which they were sent, whoever sent them; so one that need not wait waits for those
before it that do.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Any

from attrs import define

from durable._disk.codec import MsgpackCodec
from durable._gates.delivery import CURRENT
from durable._gates.input_gate import InputGate
from durable._model.limits import Limits
from durable._model.websocket import Close, Frame, Role, WebSocket, join

from .by_reference import ByReference
from .events import sender_host
from .sockets import sockets_of

_CODEC = MsgpackCodec()
_ATTACHMENT_SIZE_MAX = Limits().attachment_size_max
