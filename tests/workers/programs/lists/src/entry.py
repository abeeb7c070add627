"""A list for each name, kept by an object that is called by its methods."""

from urllib.parse import parse_qs, urlparse

from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint


class ShoppingList(DurableObject):
    async def items(self):
        return await self.ctx.storage.get("items") or []

    async def add(self, item):
        items = await self.items()
        items.append(item)
        await self.ctx.storage.put("items", to_js(items))
        return len(items)

    async def clear(self):
        await self.ctx.storage.deleteAll()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        name = url.path.strip("/")
        if not name:
            return Response("Which list?", status=400)
        stub = self.env.LISTS.get(self.env.LISTS.idFromName(name))
        if request.method == "DELETE":
            await stub.clear()
            return Response(None, status=204)
        for item in parse_qs(url.query).get("add", []):
            await stub.add(item)
        return Response.json(await stub.items(), headers={"x-list": name})
