"""Blob, File and FormData of JavaScript, and forms as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qsl
from uuid import uuid4

from .buffers import ArrayBuffer, bytes_of
from .dates import JsDate
from .javascript import JsProxy, JsTypeError, js_text
from .js_collections import JsArray, JsObject, options_of
from .promises import Promise


class Blob(JsProxy):
    """Bytes with a type."""

    js_name: ClassVar[str] = "Blob"

    def __init__(self, parts: Iterable[Any] = (), init: Any = None, **options: Any) -> None:
        options = options_of(init, options)
        self._content = b"".join(_part(part) for part in parts)
        self.type: str = js_text(options.get("type", "")).lower()

    @property
    def content(self) -> bytes:
        return self._content

    @property
    def size(self) -> int:
        return len(self._content)

    def text(self) -> Promise:
        return Promise.resolve(self._content.decode(errors="replace"))

    def arrayBuffer(self) -> Promise:
        return Promise.resolve(ArrayBuffer(self._content))

    def slice(self, start: int | None = None, end: int | None = None, type: str = "") -> Blob:
        return Blob([self._content[start:end]], type=type)


class File(Blob):
    """A Blob with a name."""

    js_name: ClassVar[str] = "File"

    def __init__(
        self, parts: Iterable[Any] = (), name: str = "", init: Any = None, **options: Any
    ) -> None:
        super().__init__(parts, init, **options)
        self.name: str = js_text(name)
        given = options_of(init, options).get("lastModified")
        self.lastModified: int = JsDate.now() if given is None else int(given)


def _part(part: Any) -> bytes:
    if isinstance(part, Blob):
        return part.content
    found = bytes_of(part)
    return js_text(part).encode() if found is None else found


class FormData(JsProxy):
    """The fields of a form, in order; of one name there may be several."""

    js_name: ClassVar[str] = "FormData"

    def __init__(self) -> None:
        self._fields: list[tuple[str, str | Blob]] = []

    def append(self, name: str, value: Any, filename: str | None = None) -> None:
        self._fields.append((js_text(name), _field(value, filename)))

    def set(self, name: str, value: Any, filename: str | None = None) -> None:
        kept = [field for field in self._fields if field[0] != name]
        at = next((n for n, field in enumerate(self._fields) if field[0] == name), len(kept))
        self._fields = [*kept[:at], (js_text(name), _field(value, filename)), *kept[at:]]

    def get(self, name: str) -> Any:
        return next((value for key, value in self._fields if key == name), None)

    def getAll(self, name: str) -> JsArray:
        return JsArray(value for key, value in self._fields if key == name)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self._fields)

    def delete(self, name: str) -> None:
        self._fields = [field for field in self._fields if field[0] != name]

    def entries(self) -> JsArray:
        return JsArray(JsArray(field) for field in self._fields)

    def keys(self) -> JsArray:
        return JsArray(key for key, _ in self._fields)

    def values(self) -> JsArray:
        return JsArray(value for _, value in self._fields)

    def __iter__(self) -> Iterator[JsArray]:
        return iter(self.entries())


def _field(value: Any, filename: str | None) -> str | Blob:
    if not isinstance(value, Blob):
        return js_text(value)
    if isinstance(value, File) and filename is None:
        return value
    return File([value], "blob" if filename is None else filename, JsObject(type=value.type))


def write_form(form: FormData) -> tuple[bytes, str]:
    """The form as multipart/form-data, and its content type."""
    boundary = uuid4().hex
    parts = []
    for name, value in form.entries():
        head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
        body = value.encode() if isinstance(value, str) else value.content
        if not isinstance(value, str):
            head += f'; filename="{_quoted(value.name)}"'
            head += f"\r\nContent-Type: {value.type or 'application/octet-stream'}"
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), (
        f"multipart/form-data; boundary={boundary}"
    )


def _quoted(text: str) -> str:
    return text.replace("\r\n", "%0D%0A").replace("\n", "%0A").replace('"', "%22")


def read_form(body: bytes, content_type: str | None) -> FormData:
    """The form in *body*. Raises a TypeError of JavaScript if it is not one."""
    kind, _, parameters = (content_type or "").partition(";")
    form = FormData()
    if kind.strip().lower() == "application/x-www-form-urlencoded":
        for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
            form.append(name, value)
        return form
    boundary = re.search(r'boundary="?([^";]+)"?', parameters)
    if kind.strip().lower() != "multipart/form-data" or boundary is None:
        raise JsTypeError(
            f"Unrecognized Content-Type header value. FormData can only parse the following MIME "
            f"types: multipart/form-data, application/x-www-form-urlencoded; this is "
            f"{content_type!r}"
        )
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        _read_part(form, part)
    return form


def _read_part(form: FormData, part: bytes) -> None:
    head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    lines = dict(_header(line) for line in head.decode(errors="replace").split("\r\n"))
    disposition = lines.get("content-disposition", "")
    names = {
        key: value.replace("%22", '"').replace("%0D%0A", "\r\n").replace("%0A", "\n")
        for key, value in re.findall(r';\s*(\w+)="([^"]*)"', disposition)
    }
    if "name" not in names:
        raise JsTypeError("No valid Content-Disposition header found in a part of the form")
    if "filename" in names:
        blob = Blob([content], type=lines.get("content-type", ""))
        form.append(names["name"], blob, names["filename"])
    else:
        form.append(names["name"], content.decode(errors="replace"))


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
