"""FITS projections: a cube (view, row, column), or a folder with one picture per view, flats and darks beside them.

Rows are taken in the order in which they are stored. Needs astropy, of the extra ``formats``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.guards import check_declared, check_memory, check_packed, container, rare, translated
from napari_unroll.io.pictures import natural
from napari_unroll.io.reader import Reader
from napari_unroll.io.tiff_stack import folder_scan, stack_scan
from napari_unroll.scan.scan import Scan

SUFFIXES = (".fits", ".fit", ".fts")


def fits_files(folder: Path) -> list[Path]:
    """The FITS files of a folder, in the order of the numbers in their names."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), key=natural)


class Cube:
    """The pictures of an open FITS file (picture, row, column), of which only those are read that are asked for."""

    def __init__(self, part: Any) -> None:
        self._part, self.shape = part, tuple(part.shape)
        self.dtype = np.asarray(self[0]).dtype

    def __getitem__(self, i: int) -> np.ndarray:
        values = np.asarray(self._part.section[i])
        return values.astype(values.dtype.newbyteorder("="), copy=False)


@contextmanager
def open_fits(path: Path) -> Iterator[Any]:
    """The part of a FITS file that holds its first picture or cube, while it is open."""
    if container(path) != "fits":
        raise FileFormatError(f"{path.name} is not a FITS file by its content; check the file.")
    fits = rare("astropy.io.fits", "A FITS file")
    with translated(path, "a FITS file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as stream, fits.open(stream, memmap=False) as file:
            yield _picture(path, file)


def load_fits(path: Path) -> np.ndarray:
    """The first picture or cube of a FITS file, (row, column) or (picture, row, column)."""
    with open_fits(path) as part:
        check_memory(2 * n_bytes_of(part), path.name)
        values = np.asarray(part.data)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def _picture(path: Path, file: Any) -> Any:
    """The first part of the file that holds a picture, after a look at the size that it declares."""
    for part in file:
        shape = part.shape if part.is_image else ()
        if len(shape) not in (2, 3) or not min(shape):
            continue
        check_part(path, part)
        return part
    raise FileFormatError(f"{path.name} holds no picture of two or three axes; expected projections.")


def n_bytes_of(part: Any) -> int:
    """What the values of a part take."""
    return math.prod(int(n) for n in part.shape) * abs(int(part.header["BITPIX"])) // 8


def check_part(path: Path, part: Any) -> None:
    """Raise where a part of the file declares more than the file can hold."""
    n_bytes = n_bytes_of(part)
    if type(part).__name__ == "CompImageHDU":
        check_packed(path.name, n_bytes, path.stat().st_size)
    else:
        check_declared(path, part.fileinfo()["datLoc"] + n_bytes, f"pictures of shape {part.shape}")


def read_file(path: Path, options: FieldOptions) -> Scan:
    """A cube as (view, row, column)."""
    with open_fits(path) as part:
        return stack_scan(path, Cube(part) if len(part.shape) == 3 else part, options)


def read_folder(path: Path, options: FieldOptions) -> Scan:
    """A folder with one picture per view; files named flat…, dark… are the fields, all others views."""
    return folder_scan(path, fits_files(path), load_fits, options)


FILE_READER = Reader(
    name="fits",
    title="FITS stack",
    expects="any FITS file",
    container="fits",
    extensions=SUFFIXES,
    sniff=lambda path: True,
    read=read_file,
    options=FieldOptions,
    holds="angles beside it in a file of its name, or option `angles`",
)
FOLDER_READER = Reader(
    name="fits-folder",
    title="folder of FITS views",
    expects="at least two FITS files",
    container="folder",
    extensions=(),
    sniff=lambda path: len(fits_files(path)) > 1,
    read=read_folder,
    options=FieldOptions,
    holds="as in a folder of TIFF views",
)
