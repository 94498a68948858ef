"""Single TIFF pictures and multi-page TIFF stacks as arrays, with their sizes checked before anything is allocated.

It knows TIFF, not what the pictures show.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from napari_unroll.errors import FileFormatError, UnrollError
from napari_unroll.interrupt import check, stage
from napari_unroll.io.guards import check_declared, check_memory, check_packed, container, quiet

MOST_PICTURES = 50_000
"""Of one file; a tenth of a millisecond each is spent before the first is read."""
TIFF_SUFFIXES = (".tif", ".tiff")


class Pictures:
    """The pictures of an open TIFF file (picture, row, column), of which only those are read that are asked for."""

    def __init__(self, path: Path, series: tifffile.TiffPageSeries, shape: tuple[int, ...]) -> None:
        self._path, self._pages = path, series.pages
        self.shape, self.dtype, self.ndim = shape, series.dtype, len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, i: int) -> np.ndarray:
        page = self._pages[i]
        if page is None:
            return np.zeros(self.shape[1:], self.dtype)
        return np.asarray(page.asarray()).reshape(self.shape[1:])


@contextmanager
def open_tiff(path: Path) -> Iterator[np.ndarray | Pictures]:
    """The pictures of a TIFF file, (row, column) or (picture, row, column), while it is open.

    They are mapped where they lie one after the other, read one by one where every page is one, else read at once.
    """
    if container(path) != "tiff":
        raise FileFormatError(f"{path.name} is not a TIFF picture by its content; check the file.")
    try:
        check_directories(path)
        with quiet("tifffile"), tifffile.TiffFile(path) as tiff:
            series = _checked_series(path, tiff)
            yield _opened(path, tiff, series)
    except UnrollError:
        raise
    except Exception as error:
        raise FileFormatError(
            f"{path.name} begins like a TIFF picture but cannot be read ({error}); it is truncated or damaged."
        ) from error


def _opened(path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> np.ndarray | Pictures:
    shape = _shape(path, series)
    if series.dataoffset is not None:
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, shape)
    if len(shape) == 3 and len(series.pages) == shape[0]:
        return Pictures(path, series, shape)
    check_memory(2 * series.nbytes, path.name)
    return np.asarray(series.asarray()).reshape(shape)


def load_tiff(path: Path) -> np.ndarray:
    """All pictures of a TIFF file, (row, column) or (picture, row, column)."""
    with open_tiff(path) as stored:
        check_memory(2 * math.prod(stored.shape) * stored.dtype.itemsize, path.name)
        if stored.ndim == 2:
            return np.array(stored, stored.dtype.newbyteorder("="))
        values = np.empty(stored.shape, stored.dtype.newbyteorder("="))
        with stage(len(values), "reading pictures") as done:
            for k in range(len(values)):
                done(k)
                values[k] = stored[k]
        return values


def _shape(path: Path, series: tifffile.TiffPageSeries) -> tuple[int, ...]:
    shape = tuple(n for n in series.shape if n > 1)
    if "S" in series.axes and series.shape[series.axes.index("S")] > 1:
        raise FileFormatError(f"{path.name} is a colour picture; expected grey values measured by a detector.")
    if len(shape) > 3:
        raise FileFormatError(f"{path.name} has axes {series.axes} of shape {series.shape}; expected views of 2 axes.")
    rows_cols = tuple(series.shape[-2:])
    n = math.prod(series.shape) // math.prod(rows_cols)
    return (n, *rows_cols) if len(shape) == 3 or n > 1 else rows_cols


def _checked_series(path: Path, tiff: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    if not tiff.series:
        raise FileFormatError(f"{path.name} is a TIFF file without pictures; export it again.")
    series = tiff.series[0]
    if series.dtype is None or series.dtype.kind not in "biuf" or series.size == 0:
        raise FileFormatError(f"{path.name} should hold grey values; it holds type {series.dtype} of {series.shape}.")
    if series.dataoffset is not None:
        check_declared(path, series.dataoffset + series.nbytes, f"pictures of shape {series.shape}")
    for page in series.pages:
        check()
        if page is not None:
            check_packed(path.name, page.nbytes, sum(page.databytecounts))
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
            check_declared(path, max(ends, default=0), "pictures")
    return series


def check_directories(path: Path) -> int:
    """Follow the chain of image directories to its end and count them.

    Raises FileFormatError where the chain leaves the file or bites its tail: readers would quietly stop there and
    return fewer pictures.
    """
    with path.open("rb") as file:
        head = file.read(16)
        order, big = "<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+")
        count, offset, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
        seen: set[int] = set()
        at = _unpack(path, order + offset, head[8 if big else 4 :])
        while at:
            check()
            if at in seen:
                raise FileFormatError(f"{path.name} has TIFF directories that point in a circle; it is damaged.")
            seen.add(at)
            if len(seen) > MOST_PICTURES:
                raise FileFormatError(
                    f"{path.name} has more than {MOST_PICTURES:,} TIFF directories; split it, or check that it is sound."
                )
            file.seek(at)
            n_entries = _unpack(path, order + count, file.read(8))
            file.seek(at + struct.calcsize("<" + count) + entry * n_entries)
            at = _unpack(path, order + offset, file.read(8))
    return len(seen)


def _unpack(path: Path, code: str, data: bytes) -> int:
    size = struct.calcsize(code)
    if len(data) < size:
        raise FileFormatError(f"{path.name} ends before its last TIFF directory: it is truncated. Copy it again.")
    return int(struct.unpack(code, data[:size])[0])


def tiff_files(folder: Path) -> list[Path]:
    """The TIFF files of a folder, in the order of the numbers in their names."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in TIFF_SUFFIXES), key=natural)


def natural(path: Path) -> tuple[object, ...]:
    """Key that sorts view_2 before view_10."""
    return tuple(int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", path.name))


def mean_picture(paths: list[Path], load: Callable[[Path], np.ndarray] = load_tiff) -> np.ndarray:
    """Mean over all pictures of these files, float32 (row, column)."""
    total, count = None, 0
    for path in paths:
        check()
        pictures = load(path)
        pictures = pictures[None] if pictures.ndim == 2 else pictures
        if total is not None and total.shape != pictures.shape[1:]:
            raise FileFormatError(f"{path.name} has {pictures.shape[1:]} pixels, the pictures before it {total.shape}.")
        part = pictures.sum(axis=0, dtype=np.float64)
        total, count = part if total is None else total + part, count + len(pictures)
    if total is None:
        raise FileFormatError("There are no pictures to average; check the folder.")
    return np.asarray(total / count, np.float32)
