"""A module that an extra is for says which, when the extra is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

import durable


@pytest.mark.parametrize(
    ("module", "libraries", "extra"),
    [
        ("durable.httpx", ("httpx", "httpx2"), "httpx"),
        ("durable.otel", ("opentelemetry",), "otel"),
        ("durable.prometheus", ("prometheus_client.core",), "prometheus"),
    ],
)
def test_an_adapter_without_its_library_says_what_to_install(
    module: str, libraries: tuple[str, ...], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import fails with `MissingExtra`, which names the extra."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(durable.MissingExtra) as caught:
        importlib.import_module(module)

    assert caught.value.extra == extra
    assert f"pip install 'durable-objects[{extra}]'" in str(caught.value)
    assert isinstance(caught.value, ImportError)
