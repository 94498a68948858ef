"""FITS projections: a cube (view, row, column), or a folder with one picture per view, flats and darks beside them.

Rows are taken in the order in which they are stored. Needs astropy, of the extra ``formats``.
"""

from __future__ import annotations

import warnings
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


def load_fits(path: Path) -> np.ndarray:
    """The first picture or cube of a FITS file, (row, column) or (picture, row, column)."""
    if container(path) != "fits":
        raise FileFormatError(f"{path.name} is not a FITS file by its content; check the file.")
    fits = rare("astropy.io.fits", "A FITS file")
    with translated(path, "a FITS file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as stream, fits.open(stream, memmap=False) as file:
            values = np.asarray(_picture(path, file).data)
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


def check_part(path: Path, part: Any) -> None:
    """Raise where a part of the file declares more than the file can hold, or than the memory."""
    n_bytes = int(np.prod(part.shape, dtype=np.float64)) * abs(int(part.header["BITPIX"])) // 8
    if type(part).__name__ == "CompImageHDU":
        check_packed(path.name, n_bytes, path.stat().st_size)
    else:
        check_declared(path, part.fileinfo()["datLoc"] + n_bytes, f"pictures of shape {part.shape}")
    check_memory(2 * n_bytes, path.name)


def read_file(path: Path, options: FieldOptions) -> Scan:
    """A cube as (view, row, column)."""
    return stack_scan(path, load_fits(path), options)


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
