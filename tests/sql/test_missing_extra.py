"""Without the library that an extra brings, the error names the extra."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import durable

from .conftest import Desk, Do


async def test_sql_without_its_library_says_what_to_install(
    do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an import that fails, and as an error of the library; the object goes on without."""

    def attempt(desk: Desk) -> None:
        with pytest.raises(durable.MissingExtra, match=r"durable-objects\[sql\]") as caught:
            desk.sql.exec("SELECT 1")
        assert caught.value.extra == "sql"
        assert isinstance(caught.value, ImportError)
        desk.ctx.storage.put("still", "there")

    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("durable._storage.sql.")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "apsw", None)
        await do(attempt)

    assert await do(lambda desk: desk.rows("SELECT 1")) == [(1,)]
