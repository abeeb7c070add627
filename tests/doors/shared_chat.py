"""The chat of the documentation, by one of several processes that share its store."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import durable.asgi

CHAT = Path(__file__).parents[2] / "docs" / "examples" / "chat" / "chat.py"

spec = importlib.util.spec_from_file_location("chat", CHAT)
assert spec is not None
assert spec.loader is not None
chat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chat)

app = durable.asgi.app(
    chat.fetch,
    os.environ.get("STORE", "chat-store"),
    shared=True,
    bindings={"ROOMS": chat.ChatRoom, "LIMITERS": chat.RateLimiter},
)
