"""Bodies of answers, read up to a bound that counts after decompression. Pure.

A service in trouble, or somebody who stands in its place, may answer with more than fits in memory: 300 MB of zeros are
300 kB on the wire.
"""

from __future__ import annotations

from sync.errors import Malformed

LARGEST = 32 * 1024 * 1024
"""Bytes of one answer. A page of 5,000 bookings takes about 6 MB.

Too small, and such a page is refused; too large, and one answer may end the process.
"""


class Collected:
    """The pieces of one body; *service* is for errors."""

    def __init__(self, service: str, largest: int = LARGEST) -> None:
        self._service = service
        self._largest = largest
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Take the next *piece*. Raises: Malformed if the body is too large."""
        self._size += len(piece)
        if self._size > self._largest:
            self._pieces.clear()
            raise Malformed(f"{self._service}: an answer of more than {self._largest // 1024 // 1024} MiB")
        self._pieces.append(piece)

    def body(self) -> bytes:
        """All pieces together."""
        return b"".join(self._pieces)
