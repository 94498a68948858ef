"""Tensors and plain values in a file with a checksum: written whole or not at all, and damage is seen when they are read.

Read with ``weights_only``, so that no code runs. It knows nothing of what they mean.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from napari_unroll.io.atomic import replacing

N_DIGEST = hashlib.sha256().digest_size


class _Hashing(io.RawIOBase):
    """A file that is only written to, and the SHA-256 of it: nothing is held in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self._file.write(data)


def write_sealed(path: Path, mark: bytes, value: Any) -> None:
    """Write ``value`` (tensors and plain containers): the mark, a SHA-256, and what torch saves."""
    with replacing(path, overwrite=True) as temporary, temporary.open("wb") as file:
        file.write(mark + bytes(N_DIGEST))
        hashing = _Hashing(file)
        torch.save(value, cast(BinaryIO, hashing))
        file.seek(len(mark))
        file.write(hashing.hash.digest())


def unsealed(path: Path, mark: bytes) -> bytes | None:
    """What torch saved, or None where that is not what is there now."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    start = len(mark) + N_DIGEST
    body = memoryview(content)[start:]
    return bytes(body) if content[:start] == mark + hashlib.sha256(body).digest() else None


def read_sealed(path: Path, mark: bytes, device: torch.device | str = "cpu") -> Any:
    """The value, its tensors on ``device``; None where it is missing or damaged."""
    content = unsealed(path, mark)
    return None if content is None else torch.load(io.BytesIO(content), map_location=device, weights_only=True)
