"""What tests of the engine on PostgreSQL do to the database."""

from __future__ import annotations

from contextlib import closing

from durable._postgres.connection import Connection, Rows
from durable._postgres.engine import PostgresEngine


def run(url: str, sql: str, *params: object) -> Rows:
    """Run a statement in a connection of its own."""
    with closing(Connection(url)) as connection:
        return connection.write(sql, params)  # type: ignore[arg-type]


def claim_all(url: str, process: int) -> dict[int, int]:
    """Let *process* own all shards; returns their epochs."""
    return dict(
        run(
            url,
            "update durable.shards set owner = %s, epoch = epoch + 1 returning shard, epoch",
            process,
        )
    )


def end_sessions(engine: PostgresEngine) -> None:
    """End all connections with the database but the one that does so."""
    run(
        engine.url,
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()",
    )
