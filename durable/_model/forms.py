"""Forms: the fields and files of a body that a browser's form, or a client like it, has sent.

Rule: whatever is sent, no more is kept in memory than the limits allow; the first limit that is
exceeded ends the reading.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import parse_qsl

from attrs import define, field, frozen
from multidict import MultiDict

from .errors import FormTooLarge, InvalidForm, MissingExtra

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
# The limit of RFC 2046.
BOUNDARY_SIZE_MAX: Final = 70
# The headers of one part; a browser's take a hundred bytes or two.
PART_HEADERS_SIZE_MAX: Final = 8_192


@frozen
class FormFile:
    """A file of a form: what a browser sends for `<input type="file">`.

    `filename` is the client's name for it, and so may be anything: not a path to write to. If no
    file was chosen browsers send one without a name and without content.
    """

    filename: str
    content_type: str
    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content)


Form: TypeAlias = MultiDict[str | FormFile]


@frozen
class FormLimits:
    """The limits of a form."""

    size_max: int
    fields_max: int
    files_max: int
    field_size_max: int

    def refuse(self, name: str, what: str) -> NoReturn:
        """Raise FormTooLarge: *what* has exceeded a limit."""
        raise FormTooLarge(name, getattr(self, name), what)


async def read_form(content_type: str, chunks: AsyncIterator[bytes], limits: FormLimits) -> Form:
    """The form in *chunks*. Raises TypeError for another content type, InvalidForm if the body does
    not match it, FormTooLarge; MissingExtra for multipart without the extra."""
    kind = content_type.partition(";")[0].strip().lower()
    reader: _Urlencoded | _Multipart
    if kind == URLENCODED:
        reader = _Urlencoded(limits)
    elif kind == MULTIPART:
        reader = _Multipart(limits, content_type)
    else:
        raise TypeError(
            f"the body is no form: its content type is {content_type!r}, and that of a form is "
            f"{URLENCODED} or {MULTIPART}"
        )
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.size_max:
            limits.refuse("size_max", f"the form has {size:,} bytes or more")
        reader.write(chunk)
    return reader.end()


@define(eq=False)
class _Urlencoded:
    limits: FormLimits
    _parts: list[bytes] = field(factory=list)
    _ends: int = 0

    def write(self, chunk: bytes) -> None:
        self._ends += chunk.count(b"&")
        if self._ends >= self.limits.fields_max:
            self.limits.refuse("fields_max", f"the form has {self._ends + 1:,} fields or more")
        self._parts.append(chunk)

    def end(self) -> Form:
        text = b"".join(self._parts).decode(errors="replace")
        form: Form = MultiDict()
        for name, value in parse_qsl(text, keep_blank_values=True):
            _check_size(self.limits, name, len(value.encode(errors="surrogatepass")))
            form.add(name, value)
        return form


@define(eq=False)
class _Multipart:
    """Reads with python-multipart's parser, which calls back for each piece of a part."""

    limits: FormLimits
    content_type: str
    form: Form = field(factory=MultiDict, init=False)
    _library: Any = field(init=False)
    _parser: Any = field(init=False)
    _has_ended: bool = field(default=False, init=False)
    # The part that is being read.
    _headers: dict[str, str] = field(factory=dict, init=False)
    _headers_size: int = field(default=0, init=False)
    _header: tuple[list[bytes], list[bytes]] = field(factory=lambda: ([], []), init=False)
    _name: str = field(default="", init=False)
    _filename: str | None = field(default=None, init=False)
    _pieces: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _fields: int = field(default=0, init=False)
    _files: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._library = import_module("python_multipart.multipart")
        except ImportError as error:
            raise MissingExtra(
                "forms with files, of the content type multipart/form-data, need python-multipart",
                "forms",
            ) from error
        _, options = self._library.parse_options_header(self.content_type)
        boundary = options.get(b"boundary")
        if not boundary or len(boundary) > BOUNDARY_SIZE_MAX:
            raise InvalidForm(
                f"the content type {self.content_type[:200]!r} names no boundary of up to "
                f"{BOUNDARY_SIZE_MAX} bytes"
            )
        callbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._content,
            "on_part_end": self._part_ends,
            "on_end": self._form_ends,
        }
        self._parser = self._call(self._library.MultipartParser, boundary, callbacks)

    def write(self, chunk: bytes) -> None:
        self._call(self._parser.write, chunk)

    def end(self) -> Form:
        if not self._has_ended:
            raise InvalidForm("the form ends in the middle of a part")
        return self.form

    def _call(self, fn: Any, *args: Any) -> Any:
        try:
            return fn(*args)
        except self._library.FormParserError as error:
            raise InvalidForm(f"the body is no {MULTIPART}: {error}") from error

    # Callbacks of the parser

    def _part_begins(self) -> None:
        self._headers, self._pieces = {}, []
        self._headers_size = self._size = 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._take_header(self._header[0], data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._take_header(self._header[1], data[start:end])

    def _take_header(self, pieces: list[bytes], piece: bytes) -> None:
        self._headers_size += len(piece)
        if self._headers_size > PART_HEADERS_SIZE_MAX:
            raise InvalidForm(
                f"the headers of a part have more than {PART_HEADERS_SIZE_MAX:,} bytes"
            )
        pieces.append(piece)

    def _header_ends(self) -> None:
        name, value = (b"".join(pieces).decode("latin-1") for pieces in self._header)
        self._header = ([], [])
        self._headers[name.lower()] = value

    def _headers_end(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        kind, options = self._library.parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise InvalidForm("a part has no name; each has a content-disposition with one")
        self._name = _unescaped(options[b"name"])
        filename = options.get(b"filename")
        self._filename = None if filename is None else _unescaped(filename)
        if self._filename is None:
            self._fields += 1
            if self._fields > self.limits.fields_max:
                self.limits.refuse("fields_max", f"the form has {self._fields:,} fields or more")
        else:
            self._files += 1
            if self._files > self.limits.files_max:
                self.limits.refuse("files_max", f"the form has {self._files:,} files or more")

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._filename is None:
            _check_size(self.limits, self._name, self._size)
        self._pieces.append(data[start:end])

    def _part_ends(self) -> None:
        content, self._pieces = b"".join(self._pieces), []
        if self._filename is None:
            self.form.add(self._name, content.decode(errors="replace"))
        else:
            kind = self._headers.get("content-type", "application/octet-stream")
            self.form.add(self._name, FormFile(self._filename, kind, content))

    def _form_ends(self) -> None:
        self._has_ended = True


def _check_size(limits: FormLimits, name: str, size: int) -> None:
    if size > limits.field_size_max:
        limits.refuse("field_size_max", f"the field {name[:80]!r} has {size:,} bytes or more")


def _unescaped(raw: bytes) -> str:
    """A name as it was before the browser wrote it: line breaks and quotes are escaped, by the
    web's standard of forms."""
    text = raw.decode(errors="replace")
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')
