"""Checks what an author gives with a hibernatable web socket: its tags, the auto-response."""

from __future__ import annotations

from collections.abc import Iterable

from durable._model.frames import utf8_size


def checked_tags(tags: Iterable[str], count_max: int, size_max: int) -> tuple[str, ...]:
    """*tags* without duplicates.

    Raises TypeError for what is no list of str, ValueError for too many or too long ones and for a
    lone surrogate.
    """
    if isinstance(tags, str | bytes):
        raise TypeError(f"the tags of a WebSocket must be a list of str, not {tags!r}; give [tag]")
    kept: dict[str, None] = {}
    for tag in tags:
        if len(kept) == count_max:
            raise ValueError(f"a Hibernatable WebSocket cannot have more than {count_max} tags")
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be a str, not {type(tag).__name__}")
        if utf8_size("a tag", tag) > size_max:
            raise ValueError(f'"{tag}" is longer than the max tag length ({size_max} characters).')
        kept[tag] = None
    return tuple(kept)


def checked_auto_response(
    request: object, response: object, size_max: int
) -> tuple[str, str] | None:
    """The two texts, or None where both are None.

    Raises TypeError for what is no str, ValueError for more than *size_max* bytes of UTF-8 and for
    a lone surrogate.
    """
    if request is None and response is None:
        return None
    return (
        _checked_text("Request", request, size_max),
        _checked_text("Response", response, size_max),
    )


def _checked_text(what: str, text: object, size_max: int) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"set_websocket_auto_response() takes two str, or None to clear, not "
            f"{type(text).__name__}"
        )
    size = utf8_size(what, text)
    if size > size_max:
        raise ValueError(
            f"{what} cannot be larger than {size_max} bytes. A {what.lower()} of size {size} was "
            f"provided."
        )
    return text
