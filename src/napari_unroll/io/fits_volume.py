"""Volumes as FITS: the values in the first part, their place in mm as linear coordinates, the record as JSON in HISTORY cards.

Source: FITS 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html), sections 4.4.2 and 8. Its axis 1 is x. Complex volumes
become magnitude and phase along axis 4. Needs astropy, of the extra ``formats``.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.fits_stack import check_part, n_bytes_of
from napari_unroll.io.guards import check_memory, rare, read_head
from napari_unroll.io.volume import CHANNELS, RECORD_KEY, Volume, from_channels, to_channels
from napari_unroll.scan.geometry import VolumeGrid

SUFFIXES = (".fits",)
MARK = f"{RECORD_KEY} record as JSON:"
"""The HISTORY card before those of the record."""
CARD, END = 71, "|"
"""Characters of the record on a HISTORY card, and the one after them, without which blanks at the end would be lost."""
BLOCK = 2880
"""Bytes of a FITS block; the mark is in the first two."""


def write(path: Path, volume: Volume) -> None:
    """Values, place and record."""
    fits = rare("astropy.io.fits", "A FITS file")
    is_complex = volume.values.dtype.kind == "c"
    values = to_channels(volume.values) if is_complex else volume.values
    part = fits.PrimaryHDU(values.astype(values.dtype.newbyteorder(">")))  # else astropy swaps the caller's bytes
    header, grid = part.header, volume.grid
    for k, (axis, first, step) in enumerate(zip("xyz", grid.origin_mm[::-1], grid.spacing_mm[::-1], strict=True), 1):
        header[f"CTYPE{k}"], header[f"CUNIT{k}"] = axis, "mm"
        header[f"CRPIX{k}"], header[f"CRVAL{k}"], header[f"CDELT{k}"] = 1.0, first, step
    if is_complex:
        header["CTYPE4"] = "/".join(CHANNELS)
    record = json.dumps(volume.record).replace("\x7f", "\\u007f")
    header.add_history(MARK)
    for first in range(0, len(record), CARD):
        header.add_history(record[first : first + CARD] + END)
    with path.open("wb") as stream:
        part.writeto(stream)


def is_ours(path: Path) -> bool:
    """Whether there is a record."""
    return MARK.encode() in read_head(path, 2 * BLOCK)


def read(path: Path) -> Volume:
    """Values, grid in mm and record of a file that :func:`write` wrote."""
    if not is_ours(path):
        raise FileFormatError(f"{path.name} has no record; it is no volume written by napari-unroll.")
    fits = rare("astropy.io.fits", "A FITS file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as stream, fits.open(stream, memmap=False) as file:
            check_part(path, file[0])
            check_memory(2 * n_bytes_of(file[0]), path.name)
            header, values = file[0].header, np.asarray(file[0].data)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 4:
        values = from_channels(values)
    spacing, center = zip(*(_axis(header, k, n) for k, n in zip((3, 2, 1), values.shape, strict=True)), strict=True)
    return Volume(values, VolumeGrid(shape=values.shape, spacing_mm=spacing, center_mm=center), _record(header))


def _axis(header: Any, k: int, n: int) -> tuple[float, float]:
    """Spacing and centre in mm of the ``n`` voxels along FITS axis ``k``."""
    at, value, step = (float(header[f"{name}{k}"]) for name in ("CRPIX", "CRVAL", "CDELT"))
    return step, value + (0.5 * (n + 1) - at) * step


def _record(header: Any) -> dict[str, Any]:
    cards = [str(card) for card in header["HISTORY"]]
    lines = cards[cards.index(MARK) + 1 :]
    return dict(json.loads("".join(line.removesuffix(END) for line in lines)))
