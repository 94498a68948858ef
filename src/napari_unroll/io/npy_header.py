"""Numpy's .npy and .npz files, opened without ever unpickling and without trusting their sizes.

It knows arrays, not what they mean.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check
from napari_unroll.io.guards import LARGE_BYTES, check_declared, check_memory, check_packed, readable

MAGIC_BYTES = 8
LONGEST_HEADER = 65_535
"""Bytes; later versions of the format may declare 4 GiB, which an archive can hold in a few kilobytes."""


@dataclass(frozen=True)
class Header:
    """What an array file declares."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int

    @property
    def n_bytes(self) -> int:
        """Size of the values, computed without overflow."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= int(n)
        return size

    def __str__(self) -> str:
        return f"an array of shape {self.shape} and type {self.dtype}"


def read_header(stream: IO[bytes], name: str) -> Header:
    """The header of an .npy stream. Raises FileFormatError for damaged headers and for Python objects (pickle)."""
    try:
        version = npy.read_magic(stream)
        size = 2 if version == (1, 0) else 4
        length = int.from_bytes(declared := stream.read(size), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"its header declares {readable(length)}")
        head = io.BytesIO(declared + stream.read(length))
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(head)
    except Exception as error:
        raise FileFormatError(f"{name} has a damaged numpy header ({error}); save or copy it again.") from error
    if dtype.hasobject:
        raise FileFormatError(
            f"{name} holds Python objects (pickle), which can run code when opened and are never loaded; "
            "save it as a plain numeric array."
        )
    if any(n < 0 for n in shape):
        raise FileFormatError(f"{name} declares the shape {shape}; it is damaged.")
    return Header(tuple(shape), dtype, fortran, MAGIC_BYTES + size + length)


def npy_header(path: Path) -> Header:
    """The checked header of an .npy file."""
    with path.open("rb") as stream:
        header = read_header(stream, path.name)
    if header.dtype.kind not in "biufc":
        raise FileFormatError(f"{path.name} should hold numbers; it holds {header}.")
    check_declared(path, header.offset + header.n_bytes, str(header))
    if header.n_bytes == 0:
        raise FileFormatError(f"{path.name} holds an array without elements, of shape {header.shape}.")
    return header


def load_npy(path: Path, *, lazy: bool = False) -> np.ndarray:
    """The array of an .npy file; ``lazy`` maps it, so that only what is touched is read."""
    header = npy_header(path)
    if lazy and header.shape:
        order = "F" if header.fortran else "C"
        return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)  # type: ignore[call-overload]
    check_memory(header.n_bytes, path.name)
    with path.open("rb") as stream:
        return _read_array(stream)


def _read_array(stream: IO[bytes]) -> np.ndarray:
    """The array of an .npy stream, in pieces of a quarter of a megabyte."""
    return np.asarray(npy.read_array(_Looking(stream), allow_pickle=False))  # type: ignore[arg-type]


class _Looking:
    """A stream that looks before every piece whether reading shall stop."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, n_bytes: int) -> bytes:
        """The next bytes."""
        check()
        return self._stream.read(n_bytes)


class Archive:
    """An .npz file: arrays by name, each checked before it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                found = {i.filename[:-4]: self._header(archive, i) for i in archive.infolist() if _is_npy(i)}
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
            raise FileFormatError(
                f"{path.name} is not a readable .npz archive ({error}); it is truncated or damaged. Copy it again."
            ) from error
        self.headers = {name: header for name, header in found.items() if header.dtype.kind in "biufc"}
        if not self.headers:
            raise FileFormatError(f"{path.name} is a zip archive without numpy arrays; expected an .npz file.")

    def _header(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
        name = f"{info.filename} in {self.path.name}"
        with archive.open(info) as stream:
            header = read_header(stream, name)
        if header.offset + header.n_bytes != info.file_size:
            raise FileFormatError(f"{name} declares {header}, but its size does not fit; the archive is damaged.")
        check_packed(name, info.file_size, info.compress_size)
        return header

    def first(self, *names: str) -> str | None:
        """The first of these names that the archive has."""
        return next((name for name in names if name in self.headers), None)

    def load(self, name: str) -> np.ndarray:
        """One array, whole."""
        check_memory(self.headers[name].n_bytes, f"{name} in {self.path.name}")
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
            return _read_array(stream)

    def lazily(self, name: str) -> np.ndarray:
        """One array, mapped where it is stored as it is, so that only what is touched is read; else whole."""
        header = self.headers[name]
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or header.n_bytes < LARGE_BYTES:
            return self.load(name)
        with self.path.open("rb") as stream:
            stream.seek(info.header_offset + 26)
            before = sum(struct.unpack("<HH", stream.read(4)))
        start = info.header_offset + 30 + before + header.offset
        order = "F" if header.fortran else "C"
        return np.memmap(self.path, header.dtype, "r", start, header.shape, order)  # type: ignore[call-overload]

    def optional(self, *names: str) -> np.ndarray | None:
        """The first of these arrays, whole, or None."""
        name = self.first(*names)
        return None if name is None else self.load(name)

    def number(self, *names: str) -> float | None:
        """The first of these names as one number, or None."""
        name = self.first(*names)
        if name is None:
            return None
        if self.headers[name].shape not in ((), (1,)):
            raise FileFormatError(
                f"{name} in {self.path.name} should be one number; it is an array of shape {self.headers[name].shape}."
            )
        return float(self.load(name).reshape(()))

    def __str__(self) -> str:
        return ", ".join(f"{name} {header.shape} {header.dtype}" for name, header in self.headers.items())


def _is_npy(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(".npy")
