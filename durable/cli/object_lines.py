"""Objects as lines of JSON: the same as `json.dumps(described(...))`, in a quarter of the time.

A listing may have a million lines, and does little else than write them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring

from durable._engine.batch import Alarm
from durable._engine.view import Weight
from durable.operate.json_lines import escaped
from durable.operate.listing import Step

SECONDS_KEPT = 10_000


def object_lines(step: Step) -> str:
    """A line for each object; its weight if it was weighed."""
    cls, with_proof = step.cls, step.ids.with_proof
    script = json.dumps(cls.script, ensure_ascii=False)
    head = escaped(f'{{"class": {encode_basestring(cls.name)}, "script": {script}, "id": "')
    lines = []
    for base, (_, created_us, name, *more), weight in step.rows:
        name_text = "null" if name is None else escaped(encode_basestring(name))
        alarm_text = _alarm(Alarm(*more[:4])) if len(more) >= 4 else "null"
        end = "" if weight is None else _weight(weight)
        lines.append(
            f'{head}{with_proof(base).hex()}", "name": {name_text}, '
            f'"created": "{_time(created_us)}", "alarm": {alarm_text}{end}}}\n'
        )
    return "".join(lines)


def _weight(weight: Weight) -> str:
    keys, size, database_size, history_size = weight
    return (
        f', "keys": {keys}, "bytes": {size}, "database_bytes": {database_size}, '
        f'"history_bytes": {history_size}'
    )


def _alarm(alarm: Alarm) -> str:
    return (
        f'{{"due": "{_time(alarm.due_us)}", "scheduled": "{_time(alarm.scheduled_us)}", '
        f'"retry_count": {alarm.retry_count}}}'
    )


def _time(time_us: int) -> str:
    seconds, us = divmod(time_us, 1_000_000)
    return f"{_second(seconds)}.{us:06}+00:00" if us else f"{_second(seconds)}+00:00"


@lru_cache(SECONDS_KEPT)
def _second(seconds: int) -> str:
    # Many objects are created in one second.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
