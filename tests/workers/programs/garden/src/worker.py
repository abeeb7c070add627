"""The entry of a Worker whose classes lie in a module beside it."""

from beds import Bed
from workers import Response, WorkerEntrypoint

__all__ = ["Bed", "Default"]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        from names import of_season

        bed = self.env.BEDS.getByName("front")
        return Response.json([of_season(), await bed.describe()])
