"""`list`, in all its forms at once, against the plainest model of what the contract says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import durable

LETTERS = ("a", "b", "z", "\x00", "\x7f", "é", "\uffff", "\U0001f600")


class Shelf(durable.DurableObject):
    """Its storage is filled and listed by chance."""

    async def compare(self, seed: int, steps: int) -> int:
        by_chance = random.Random(seed)
        model: dict[str, int] = {}
        listed = 0
        for step in range(steps):
            key = _key(by_chance, 3)
            match by_chance.randrange(6):
                case 0:
                    self.ctx.storage.put(key, step)
                    model[key] = step
                case 1:
                    assert await self.ctx.storage.delete(key) == (model.pop(key, None) is not None)
                case 2 if by_chance.random() < 0.2:
                    await self.ctx.storage.sync()
                case _:
                    options = _options(by_chance)
                    expected = list(_listed(model, **options).items())
                    assert list((await self.ctx.storage.list(**options)).items()) == expected
                    assert list(self.ctx.storage.kv.list(**options).items()) == expected
                    listed += len(expected)
        return listed


def _key(by_chance: random.Random, size_max: int) -> str:
    return "".join(by_chance.choices(LETTERS, k=by_chance.randint(0, size_max)))


def _options(by_chance: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if by_chance.random() < 0.5:
        options[by_chance.choice(["start", "start_after"])] = _key(by_chance, 3)
    if by_chance.random() < 0.4:
        options["end"] = _key(by_chance, 3)
    if by_chance.random() < 0.4:
        options["prefix"] = _key(by_chance, 2)
    if by_chance.random() < 0.5:
        options["reverse"] = True
    if by_chance.random() < 0.5:
        options["limit"] = by_chance.randint(1, 6)
    return options


def _listed(
    model: dict[str, int],
    *,
    start: str = "",
    start_after: str | None = None,
    end: str | None = None,
    prefix: str = "",
    reverse: bool = False,
    limit: int | None = None,
) -> dict[str, int]:
    keys = [
        key
        for key in sorted(model, key=str.encode, reverse=reverse)
        if key.encode() >= start.encode()
        and (start_after is None or key.encode() > start_after.encode())
        and (end is None or key.encode() < end.encode())
        and key.startswith(prefix)
    ]
    return {key: model[key] for key in keys[:limit]}


async def test_list_answers_what_a_sorted_dict_would(tmp_path: Path) -> None:
    """Over what is on disk, what is on its way there and what is only written, in byte order."""
    async with durable.open(tmp_path) as runtime:
        for seed in range(3):
            assert await runtime.namespace(Shelf).get_by_name(f"{seed}").compare(seed, 400) > 100
