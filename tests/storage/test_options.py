"""Every call takes the options that it is said to take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import durable

READS = ("allow_concurrency", "no_cache")
WRITES = ("allow_concurrency", "allow_unconfirmed", "no_cache")

# The calls of a storage and of a transaction.
CALLS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "get": (lambda storage, **options: storage.get("a", **options), READS),
    "get many": (lambda storage, **options: storage.get(["a", "b"], **options), READS),
    "list": (lambda storage, **options: storage.list(**options), READS),
    "put": (lambda storage, **options: storage.put("a", 1, **options), WRITES),
    "put many": (lambda storage, **options: storage.put({"a": 1, "b": 2}, **options), WRITES),
    "delete": (lambda storage, **options: storage.delete("a", **options), WRITES),
    "delete many": (lambda storage, **options: storage.delete(["a", "b"], **options), WRITES),
    "get_alarm": (lambda storage, **options: storage.get_alarm(**options), READS[:1]),
    "set_alarm": (lambda storage, **options: storage.set_alarm(4e9, **options), WRITES[:2]),
    "delete_alarm": (lambda storage, **options: storage.delete_alarm(**options), WRITES[:2]),
}
DELETE_ALL = (lambda storage, **options: storage.delete_all(**options), WRITES)
# What does not wait has nothing to let others in for.
KV = {name: (call, [o for o in options if o != "allow_concurrency"]) for name, (call, options)
      in CALLS.items() if "alarm" not in name}  # fmt: skip


class Storing(durable.DurableObject):
    """Makes the call that it is told to make."""

    async def alarm(self) -> None: ...

    async def with_storage(self, name: str, options: dict[str, bool]) -> None:
        call, _ = {**CALLS, "delete_all": DELETE_ALL}[name]
        await call(self.ctx.storage, **options)

    async def with_kv(self, name: str, options: dict[str, bool]) -> None:
        KV[name][0](self.ctx.storage.kv, **options)

    async def with_transaction(self, name: str, options: dict[str, bool]) -> None:
        async def closure(txn: durable.Transaction) -> None:
            await CALLS[name][0](txn, **options)

        await self.ctx.storage.transaction(closure)


async def try_all(stub: Any, method: str, name: str, options: Any) -> None:
    """Each option by itself, on and off, and all of them."""
    for one in options:
        for value in (False, True):
            await getattr(stub, method)(name, {one: value})
    await getattr(stub, method)(name, dict.fromkeys(options, True))
    with pytest.raises(TypeError):
        await getattr(stub, method)(name, {"no_such_option": True})


@pytest.mark.parametrize("name", [*CALLS, "delete_all"])
async def test_a_storage_takes_all_options(tmp_path: Path, name: str) -> None:
    """Whether or not they change anything there."""
    _, options = {**CALLS, "delete_all": DELETE_ALL}[name]
    async with durable.open(tmp_path) as runtime:
        stub = runtime.namespace(Storing).get_by_name("a")
        await try_all(stub, "with_storage", name, options)


@pytest.mark.parametrize("name", CALLS)
async def test_a_transaction_takes_them_too(tmp_path: Path, name: str) -> None:
    """As its storage does."""
    async with durable.open(tmp_path) as runtime:
        stub = runtime.namespace(Storing).get_by_name("a")
        await try_all(stub, "with_transaction", name, CALLS[name][1])


@pytest.mark.parametrize("name", KV)
async def test_kv_takes_them_too(tmp_path: Path, name: str) -> None:
    """But the one about waiting, which it does not."""
    async with durable.open(tmp_path) as runtime:
        stub = runtime.namespace(Storing).get_by_name("a")
        await try_all(stub, "with_kv", name, KV[name][1])
