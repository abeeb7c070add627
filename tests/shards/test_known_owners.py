"""What one process believes of the owners of shards (P3, P20)."""

from __future__ import annotations

from typing import Any

import pytest

from durable._engine.shards import Owned
from durable._shards.known_owners import KnownOwners


class Process:
    """One that is connected."""

    is_gone = False


@pytest.fixture
def processes() -> dict[str, Any]:
    return {"a": Process(), "b": Process()}


@pytest.fixture
def owners(processes: dict[str, Any]) -> KnownOwners:
    return KnownOwners("me", processes.get, lambda shard: None)


def test_what_is_newer_is_believed(owners: KnownOwners, processes: dict[str, Any]) -> None:
    """And what was read before it, and comes late, is not."""
    for owned, believed in (
        (Owned("a", 5), "a"),
        (Owned(None, 5), None),
        (Owned("a", 5), None),
        (Owned("b", 6), "b"),
        (Owned(None, 5), "b"),
    ):
        owners.hear(1, owned)
        owner = owners.owner_of(1)

        assert (owner and owner.peer) == processes.get(believed or "")


def test_a_second_owner_at_one_epoch_is_believed(
    owners: KnownOwners, processes: dict[str, Any]
) -> None:
    """The claim of the first was read before the standby had it, and is lost: else calls would go
    to it until the shard has another owner again."""
    owners.hear(1, Owned("a", 5))
    owners.hear(1, Owned("b", 5))
    owner = owners.owner_of(1)

    assert owner is not None
    assert owner.peer is processes["b"]
