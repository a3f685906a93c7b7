"""Logs in UTF-16, as Windows' tools leave them."""

import codecs
from collections.abc import Callable
from typing import Final, Protocol

MARKS: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes: ...

    def read1(self, size: int, /) -> bytes: ...


class AsUtf8:
    """A stream of bytes as it is, or in UTF-8 if a mark at its start says that it is in UTF-16."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._has_begun = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def read(self, size: int) -> bytes:
        """Read about so many bytes; none at the end."""
        return self._convert(self._stream.read, size)

    def read1(self, size: int) -> bytes:
        """Read what is there already, or else wait for more; none at the end."""
        return self._convert(self._stream.read1, size)

    def _convert(self, read: Callable[[int], bytes], size: int) -> bytes:
        raw = read(size) if self._has_begun else self._begin(read(size))
        if self._decoder is None:
            return raw
        text = self._decoder.decode(raw, final=not raw)
        while raw and not text:
            raw = read(size)
            text = self._decoder.decode(raw, final=not raw)
        return text.encode("utf-8", "replace")

    def _begin(self, raw: bytes) -> bytes:
        """Look for the mark, and leave it out."""
        self._has_begun = True
        while raw and len(raw) < len(codecs.BOM_UTF16) and (more := self._stream.read(1)):
            raw += more
        if encoding := MARKS.get(raw[:2]):
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
            return raw[2:] or self._stream.read(2)
        return raw
