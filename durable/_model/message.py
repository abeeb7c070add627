"""The common part of a Request and a Response: headers, and a body that may be a form."""

from __future__ import annotations

from typing import Any

from multidict import CIMultiDict

from .body import Body
from .forms import Form, FormLimits, read_form
from .headers import Headers, HeadersInit


class Message(Body):
    __slots__ = ("_content_type", "_headers")

    _headers: CIMultiDict[str] | None
    _content_type: str | None  # of the body, unless the headers have one

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers, compared without case. They are the message's own: changing them counts."""
        if self._headers is None:
            self._headers = Headers()
            if self._content_type is not None:
                self._headers["content-type"] = self._content_type
        return self._headers

    async def form(
        self,
        *,
        size_max: int = 16_777_216,
        fields_max: int = 1_000,
        files_max: int = 100,
        field_size_max: int = 1_048_576,
    ) -> Form:
        """The whole body as a form: a multidict of str, and of a `FormFile` for each file.

        `form["name"]` is the first field of that name, `form.getall("name")` are all of them, in
        the order of the form. Of the content types application/x-www-form-urlencoded and
        multipart/form-data; the latter needs the extra `forms`. All of it is in memory, up to
        *size_max* bytes, which the files share; a field that is no file has up to *field_size_max*.

        Raises TypeError for another content type, or if the body was read; InvalidForm for a body
        that does not match it, FormTooLarge if it exceeds a limit, whose name the error has.
        """
        limits = FormLimits(size_max, fields_max, files_max, field_size_max)
        content_type = self.headers.get("content-type", "")
        chunks: Any = self.stream()
        try:
            return await read_form(content_type, chunks, limits)
        finally:
            await chunks.aclose()

    def _be_empty(self) -> None:
        """No headers, no body."""
        self._content = self._headers = self._content_type = None
        self._used = False

    def _set_headers(self, headers: HeadersInit, content_type: str | None) -> None:
        self._content_type = content_type
        self._headers = None
        if headers is not None:
            self._headers = Headers(headers)
            if content_type is not None:
                self._headers.setdefault("content-type", content_type)

    def _give_all_to(self, other: Message) -> None:
        """Headers and body. Written out: every call of `fetch` does this."""
        content = self._content
        if self._used:
            self._check_unused()
        other._content = content
        other._used = False
        other._headers = self._headers
        other._content_type = self._content_type
        if content is not None:
            self._used = True
            self._content = None

    def _header_parts(self) -> list[Any]:
        """The headers as pairs, None if none were made yet, and the content type."""
        headers = self._headers
        return [None if headers is None else [*headers.items()], self._content_type]

    def _set_header_parts(self, headers: Any, content_type: Any) -> None:
        self._headers = None if headers is None else Headers(headers)
        self._content_type = None if content_type is None else str(content_type)

    def _copy_headers(self, copy: Message) -> None:
        copy._content_type = self._content_type
        copy._headers = None if self._headers is None else self._headers.copy()
