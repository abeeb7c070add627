"""Every bound of the library: one name, one number, one unit."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field, frozen


def _number(limits: object, attribute: Attribute[Any], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"Limits.{attribute.name} must be a number, not {value!r}")
    if str(attribute.type) == "int" and not isinstance(value, int):
        raise TypeError(f"Limits.{attribute.name} must be a whole number, not {value!r}")
    if not value >= 0:
        raise ValueError(f"Limits.{attribute.name} must be zero or above, not {value!r}")


def _positive(limits: object, attribute: Attribute[Any], value: float) -> None:
    _number(limits, attribute, value)
    if value == 0:
        raise ValueError(f"Limits.{attribute.name} must be above zero, not {value!r}")


@frozen(kw_only=True)
class Limits:
    """The limits of one object, and of one runtime. Times are in seconds, sizes in bytes.

    Not among them, since they are fixed: a message of a web socket has up to 32 MiB, and 16 MiB of
    them may wait to be read at one socket.
    """

    # Storage
    key_size_max: int = field(default=2_048, validator=_positive)  # bytes of UTF-8
    value_size_max: int = field(default=2_097_152, validator=_positive)  # bytes once encoded
    keys_per_call_max: int = field(default=128, validator=_positive)  # of get, put and delete
    dirty_bytes_max: int = field(default=8_388_608, validator=_positive)  # of one object
    cache_bytes_max: int = field(default=67_108_864, validator=_positive)  # of the runtime

    # Time
    critical_section_s_max: float = field(default=30.0, validator=_positive)
    critical_section_depth_max: int = field(default=64, validator=_positive)
    commit_s_max: float = field(default=30.0, validator=_positive)
    alarm_s_max: float = field(default=900.0, validator=_positive)
    alarm_retries_max: int = field(default=6, validator=_number)  # 0: never run again
    idle_s_max: float = field(default=10.0, validator=_positive)
    shutdown_s_max: float = field(default=10.0, validator=_positive)

    # Timers of one object
    timers_max: int = field(default=1_000, validator=_positive)
    timer_name_size_max: int = field(default=256, validator=_positive)  # bytes of UTF-8
    timer_payload_size_max: int = field(default=16_384, validator=_positive)  # bytes once encoded

    # The queue of one object
    queued_deliveries_max: int = field(default=1_000, validator=_positive)
    queued_bytes_max: int = field(default=33_554_432, validator=_positive)
    queued_s_max: float = field(default=30.0, validator=_positive)

    # How many objects are in memory before the least recently used idle ones go
    live_objects_max: int = field(default=10_000, validator=_positive)

    # What may wait to be read at all the web sockets of the runtime
    websocket_unread_bytes_max: int = field(default=268_435_456, validator=_positive)

    # SQL in one object
    sql_size_max: int = field(default=10_000_000_000, validator=_positive)  # of the database
    sql_value_size_max: int = field(default=2_097_152, validator=_positive)  # of a value, of a row
    sql_statement_size_max: int = field(default=100_000, validator=_positive)
    sql_columns_max: int = field(default=100, validator=_positive)
    sql_bindings_max: int = field(default=100, validator=_positive)
    sql_function_arguments_max: int = field(default=127, validator=_positive)
    sql_pattern_size_max: int = field(default=50, validator=_positive)  # of LIKE and GLOB
    sql_s_max: float = field(default=30.0, validator=_positive)  # of a statement, in real time
    sql_turn_bytes_max: int = field(default=67_108_864, validator=_positive)  # written in a turn
    # Open databases of the runtime; the one used longest ago is closed for another
    sql_connections_max: int = field(default=500, validator=_positive)

    # A store on PostgreSQL: how long after the last sign of a process others may take what it
    # owned; the lease is renewed three times in that time
    lease_s: float = field(default=10.0, validator=_positive)
    # Other processes: how long a call waits that has not begun, while the owner is not found
    unreachable_s_max: float = field(default=30.0, validator=_positive)
    # One message to another process: arguments, a result, a chunk of a body
    peer_message_size_max: int = field(default=67_108_864, validator=_positive)

    # Web sockets of one object
    websockets_max: int = field(default=32_768, validator=_positive)
    websocket_tags_max: int = field(default=10, validator=_positive)
    websocket_tag_size_max: int = field(default=256, validator=_positive)
    attachment_size_max: int = field(default=16_384, validator=_positive)
    auto_response_size_max: int = field(default=2_048, validator=_positive)

    def __attrs_post_init__(self) -> None:
        if self.key_size_max > 2_048:
            raise ValueError(
                f"Limits.key_size_max can be lowered but not raised above 2,048 bytes, the longest "
                f"key of the store's format; {self.key_size_max:,} was given"
            )
        if self.timer_name_size_max > 400:
            raise ValueError(
                f"Limits.timer_name_size_max can be raised to 400 bytes, for which the store's "
                f"format has room; {self.timer_name_size_max:,} was given"
            )
