"""Bytes of somebody else's as a file, without a copy of them."""

import io

UploadBytes = bytes | memoryview
"""One-dimensional, of unsigned bytes."""


class MemoryFile(io.RawIOBase):
    """`io.BytesIO` copies all but `bytes`; uploads lie in memory that is shared with others."""

    def __init__(self, data: UploadBytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # of what Python hands in
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """
        Raises:
            ValueError: before the beginning.
        """
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if at < 0:
            raise ValueError(f"negative seek position {at}")
        self._at = at
        return at
