"""The elements of a MATLAB 5 file, looked through before scipy reads it: a type that there is none of ends its process.

Source: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf (MAT-File Format, version 5). Knows elements; no arrays.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check

HEADER_BYTES = 128
KINDS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15, 16, 17, 18}
"""Types of elements; 14 holds others, 15 is one that is packed."""
MATRIX, PACKED = 14, 15
DEEPEST = 32
PIECE = 2**20


class _Inflated:
    """What a packed element holds, unpacked piece by piece and never kept."""

    def __init__(self, packed: bytes) -> None:
        self._unpack, self._rest = zlib.decompressobj(), packed

    def read(self, n: int) -> bytes:
        """The next ``n`` bytes, fewer at the end."""
        found = b""
        while len(found) < n and not self._unpack.eof:
            piece = self._unpack.decompress(self._rest, n - len(found))
            self._rest = self._unpack.unconsumed_tail
            if not piece and not self._rest:
                break
            found += piece
        return found


def check_tags(path: Path) -> None:
    """Raise FileFormatError where an element is of no known type or does not fit into what holds it."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
        order = ">" if head[126:128] == b"MI" else "<"
        _walk(stream, path.stat().st_size - HEADER_BYTES, order, path.name, 0)


def _walk(stream: IO[bytes] | _Inflated, room: float, order: str, name: str, depth: int) -> None:
    while room >= 8:
        check()
        tag = stream.read(8)
        if len(tag) < 8:
            return
        first, n = struct.unpack(order + "II", tag)
        is_short = first >> 16 > 0
        kind, n = (first & 0xFFFF, first >> 16) if is_short else (first, n)
        room -= 8
        if kind not in KINDS or n > (4 if is_short else room) or depth > DEEPEST:
            raise FileFormatError(
                f"{name} has an element of type {kind} with {n} bytes where none can be: it is truncated or damaged. Copy it again."
            )
        if is_short:
            continue
        if kind == MATRIX:
            _walk(stream, n, order, name, depth + 1)
        elif kind == PACKED:
            _walk(_Inflated(stream.read(n)), float("inf"), order, name, depth + 1)
        else:
            _skip(stream, n)
        padding = 0 if kind == PACKED else int(min(-n % 8, room - n))
        _skip(stream, padding)
        room -= n + padding


def _skip(stream: IO[bytes] | _Inflated, n: int) -> None:
    if not isinstance(stream, _Inflated):
        stream.seek(n, 1)
        return
    while n > 0:
        check()
        piece = len(stream.read(min(n, PIECE)))
        n = n - piece if piece else 0
