"""MRC stacks with an angle file beside them, and the old FEI ones that carry tilts and pixel size themselves.

Source: https://www.ccpem.ac.uk/mrc-format/mrc2014/ ; the FEI extended header as IMOD documents it
(https://bio3d.colorado.edu/imod/doc/mrc_format.txt).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import MRC_SUFFIXES, check_declared, read_head
from napari_unroll.io.number_files import angles_file
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views
from napari_unroll.scan.scan import Scan

HEADER_BYTES = 1024
FEI_BYTES = 128
"""Length of the record per view of the old FEI header: 32 floats, of which 0 is the tilt and 11 the pixel in metres."""


def sniff(path: Path) -> bool:
    """Whether the header is that of a stack of numbers."""
    _header(path)
    return True


def _header(path: Path) -> np.recarray:
    check_declared(path, HEADER_BYTES, "an MRC header")
    extended = int.from_bytes(read_head(path, HEADER_BYTES)[92:96], "little")  # nsymbt
    if min(extended, int.from_bytes(extended.to_bytes(4, "little"), "big")) > path.stat().st_size - HEADER_BYTES:
        raise FileFormatError(f"{path.name} declares a longer MRC header than the whole file; it is damaged.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(path, permissive=True, header_only=True) as file:
                header = file.header.copy()
        dtype = data_dtype_from_header(header)
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path.name} has no valid MRC header ({error}); is it an MRC stack?") from error
    shape = tuple(int(header[k]) for k in ("nz", "ny", "nx"))
    if min(shape) < 1 or int(header.nsymbt) < 0 or dtype.kind not in "iuf" or dtype.itemsize * shape[2] < 1:
        raise FileFormatError(f"{path.name} has no valid MRC header: shape {shape}, mode {int(header.mode)}.")
    return header


def read(path: Path, options: CircularOptions) -> Scan:
    """A tilt series or a stack of projections (view, row, column)."""
    header = _header(path)
    shape = tuple(int(header[k]) for k in ("nz", "ny", "nx"))
    dtype = data_dtype_from_header(header)
    start = HEADER_BYTES + int(header.nsymbt)
    check_declared(path, start + dtype.itemsize * shape[0] * shape[1] * shape[2], f"{shape[0]} views")
    stack = np.memmap(path, dtype, "r", start, shape)
    notes = [f"MRC stack of type {dtype.name}."]
    views = Views(shape=shape, load=lambda i: stack[i], integer=dtype.kind in "iu")  # type: ignore[arg-type]
    return circular_scan(path, views, _facts(path, header, shape[0], notes), options, notes)


def _facts(path: Path, header: np.recarray, n_views: int, notes: list[str]) -> Facts:
    beside = angles_file(path)
    fei = _fei_records(path, header, n_views)
    if fei is None:
        return Facts(angles_file=beside)
    pixel = float(fei[0, 11]) * 1e3
    notes.append("Old FEI header: one record per view.")
    return Facts(
        angles=None if beside else fei[:, 0],
        angle_unit="degrees",
        angles_source="the FEI header",
        angles_file=beside,
        pixel_mm=pixel or None,
    )


def _fei_records(path: Path, header: np.recarray, n_views: int) -> np.ndarray | None:
    labels = bytes(np.asarray(header.label).tobytes()).lower()
    if b"fei company" not in labels or int(header.nsymbt) < FEI_BYTES * n_views:
        return None
    order = header.nx.dtype.byteorder
    table = np.fromfile(path, np.dtype(np.float32).newbyteorder(order), FEI_BYTES // 4 * n_views, offset=HEADER_BYTES)
    records = table.reshape(n_views, -1).astype(np.float64)
    return records if np.isfinite(records[:, 0]).all() and np.abs(records[:, 0]).max() <= 360 else None


READER = Reader(
    name="mrc",
    title="MRC stack",
    expects="an MRC header",
    container="mrc",
    extensions=MRC_SUFFIXES,
    sniff=sniff,
    read=read,
    options=CircularOptions,
    holds="angles in a `.rawtlt`, `.tlt`, `.txt` or `.csv` of the same name, or option `angles`; old FEI headers bring "
    "tilts and pixel size",
)
