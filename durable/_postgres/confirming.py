"""Reads that count only once the synchronous standby has what was read.

A transaction that the standby lacks can be seen, if its primary was restarted or the wait for the
standby was cancelled, and a sequence returns numbers ahead of its record in the server's log. What
is built on such a read is wrong once the standby takes the primary's place.
"""

from __future__ import annotations

from typing import Final, LiteralString

CONFIRMED: Final[LiteralString] = "pg_logical_emit_message(true, 'durable', 'what was read counts')"
"""A column for a statement that reads. The message, which nothing reads, is a record of the log
behind what was read, and its commit waits for the standby."""
