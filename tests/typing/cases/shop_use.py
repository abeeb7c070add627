"""How the stub classes that `durable types shop` wrote are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, reveal_type

import durable

if TYPE_CHECKING:
    from shop_stubs import BoxNamespace, ShopNamespace


class Env(durable.Env):
    SHOPS: ShopNamespace
    BOXES: BoxNamespace[str]


async def main(runtime: durable.Runtime) -> None:
    env: Env = runtime.env
    shop = env.SHOPS.get_by_name("a")
    reveal_type(await shop.plain())  # N: "dict[str, Order]"
    reveal_type(await shop.again())  # N: "dict[str, Order]"
    reveal_type(await shop.soon())  # N: "str"
    reveal_type([number async for number in shop.ticks(3)])  # N: "list[int]"
    reveal_type(await shop.fixed("b"))  # N: "int"
    reveal_type(await shop.kind(1))  # N: "None"
    reveal_type(await shop.pick(1))  # N: "int"
    reveal_type(await shop.pick("a"))  # N: "str"
    reveal_type(await shop.inherited(["a"]))  # N: "int"
    reveal_type(await env.SHOPS.get(shop.id).fixed())  # N: "int"
    reveal_type(await env.BOXES.get_by_name("a").take())  # N: "str"
    reveal_type(await shop.fetch("https://shop/"))  # N: "Response"
    reveal_type(shop.name)  # N: "str | None"
    await shop.plain(1)  # E
    await shop.fixed("c")  # E
    await shop.place(1)  # E
    await shop.ticks(3)  # E
