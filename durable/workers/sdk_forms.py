"""Blob, File and FormData as `workers` has them: Python's faces of JavaScript's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from enum import StrEnum
from typing import Any

from . import blobs
from .buffers import bytes_of
from .crossing import inward, outward


class BlobEnding(StrEnum):
    TRANSPARENT = "transparent"
    NATIVE = "native"


class Blob:
    """Bytes with a type; *blob_parts* is one part or several."""

    def __init__(
        self,
        blob_parts: Any,
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
    ) -> None:
        parts, inherited = _parts(blob_parts)
        kind = content_type if content_type is not None else inherited
        self._js_blob: blobs.Blob = blobs.Blob(parts, type=kind)

    @property
    def js_object(self) -> blobs.Blob:
        return self._js_blob

    @property
    def size(self) -> int:
        return self._js_blob.size

    @property
    def content_type(self) -> str:
        return self._js_blob.type

    async def text(self) -> str:
        return self._js_blob.content.decode(errors="replace")

    async def bytes(self) -> bytes:
        return self._js_blob.content

    def slice(
        self, start: int | None = None, end: int | None = None, content_type: str | None = None
    ) -> Blob:
        return Blob([self._js_blob.slice(start, end)], content_type or "")


class File(Blob):
    """A Blob with a name."""

    def __init__(
        self,
        blob_parts: Any,
        filename: str,
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
        last_modified: int | None = None,
    ) -> None:
        super().__init__(blob_parts, content_type, endings)
        source = getattr(blob_parts, "js_object", blob_parts)
        if last_modified is None and isinstance(source, blobs.File):
            last_modified = source.lastModified
        self._js_file: blobs.File = blobs.File(
            [self._js_blob], filename, type=self._js_blob.type, lastModified=last_modified
        )
        self._js_blob = self._js_file

    @property
    def name(self) -> str:
        return self._js_file.name

    @property
    def last_modified(self) -> int:
        return self._js_file.lastModified


def _parts(given: Any) -> tuple[list[Any], str]:
    """The parts, and the type of a single one."""
    is_single = isinstance(given, str | Blob | blobs.Blob) or bytes_of(given) is not None
    parts = [form_object(part) for part in _several(given, is_single)]
    for part in parts:
        if not isinstance(part, str | blobs.Blob) and bytes_of(part) is None:
            raise TypeError(f"Don't know how to handle {type(part)} for Blob()")
    inherited = parts[0].type if is_single and isinstance(parts[0], blobs.Blob) else ""
    return parts, inherited


def _several(given: Any, is_single: bool) -> Iterable[Any]:
    return [given] if is_single else list(given)


class FormData(MutableMapping[str, Any]):
    """The fields of a form, by their names; `append` and `get_all` for several of one name."""

    def __init__(self, form_data: Any = None) -> None:
        self._js_form_data: blobs.FormData = blobs.FormData()
        if isinstance(form_data, blobs.FormData):
            self._js_form_data = form_data
        elif isinstance(form_data, dict):
            for name, value in form_data.items():
                self.append(name, value)
        elif form_data:
            raise TypeError("Expected form_data to be a dict or an instance of FormData")

    @property
    def js_object(self) -> blobs.FormData:
        return self._js_form_data

    def __getitem__(self, key: str) -> Any:
        return _as_python(self._js_form_data.get(key))

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list):
            raise TypeError("Expected single item in arguments to FormData.__setitem__")
        self._js_form_data.set(key, getattr(value, "js_object", value))

    def __delitem__(self, key: str) -> None:
        self._js_form_data.delete(key)

    def append(self, key: str, value: Any, filename: str | None = None) -> None:
        self._js_form_data.append(key, getattr(value, "js_object", value), filename)

    def delete(self, key: str) -> None:
        self._js_form_data.delete(key)

    def get_all(self, key: str) -> list[Any]:
        return [_as_python(value) for value in self._js_form_data.getAll(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._js_form_data.has(key)

    # Each name as often as it occurs, unlike a dict's.
    def keys(self) -> Any:
        return list(self._js_form_data.keys())

    def values(self) -> Any:
        return [_as_python(value) for value in self._js_form_data.values()]

    def items(self) -> Any:
        return [(name, _as_python(value)) for name, value in self._js_form_data.entries()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._js_form_data.keys())


def _as_python(value: Any) -> Any:
    if isinstance(value, blobs.File):
        return File(value, value.name)
    if isinstance(value, blobs.Blob):
        return Blob(value)
    return value


def form_object(value: Any) -> Any:
    """*value*, a form, a Blob or anything else, as JavaScript gets it."""
    return getattr(value, "js_object", value)


# They are sent between Workers; an object neither stores nor receives them.


@outward.register(blobs.Blob)
@outward.register(blobs.FormData)
def _as_it_is(value: Any) -> Any:
    return value


@inward.register
def _blob_in(value: blobs.Blob) -> Blob:
    return Blob(value)


@inward.register
def _file_in(value: blobs.File) -> File:
    return File(value, value.name)


@inward.register
def _form_in(value: blobs.FormData) -> FormData:
    return FormData(value)
