"""The folder of one orbit of the CWI walnut data set: cone-beam views, flats, dark and one geometry row per view.

Rows pair with files in reverse order (row 1200 − k belongs to file k) and every picture is flipped up-down and
transposed, as in the data set's own loading scripts.
Source: H. Der Sarkissian et al., A cone-beam X-ray CT data collection designed for machine learning, Sci. Data 6:215
(2019), doi:10.1038/s41597-019-0235-y.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import ViewOptions
from napari_unroll.io.number_files import numbers_from
from napari_unroll.io.pictures import load_tiff
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views, load_stack, take_log
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.grids import bin_geometry, limit_grid
from napari_unroll.scan.scan import Scan

VIEW_NAME = re.compile(r"^scan_(\d{6})\.tiff?$")
FLATS = ("io000000.tif", "io000001.tif")
DARK = "di000000.tif"
EXTENT_MM = 50.1
VOXEL_MM = 0.1
"""The data set's own reconstructions: 501³ voxels of 0.1 mm."""


class WalnutOptions(ViewOptions):
    """How much of the orbit is loaded, and which of the two geometry files."""

    geometry: Literal["corrected", "original"] = Field(
        default="corrected", description="Geometry rows: after the data set's own correction, or as the scanner wrote."
    )


@dataclass(frozen=True)
class Orbit:
    """The view files of one orbit with their numbers, in ascending order."""

    files: list[Path]
    numbers: list[int]


def sniff(path: Path) -> bool:
    """A folder with geometry rows and numbered views."""
    return any(path.glob("scan_geom_*.geom")) and any(VIEW_NAME.match(p.name) for p in path.iterdir())


def read(path: Path, options: WalnutOptions) -> Scan:
    """Whatever views the folder has, with the geometry rows of their file numbers."""
    rows = _rows(path, options)
    orbit = _orbit(path, len(rows))
    views = _views(path, orbit)
    notes = [
        f"Read {len(orbit.files)} of {len(rows) - 1} views, files {orbit.numbers[0]} … {orbit.numbers[-1]}; flipped and "
        "transposed as the data set's scripts do.",
        f"Geometry rows {len(rows) - 1} − file number of scan_geom_{options.geometry}.geom; dark and mean flat applied.",
    ]
    stack = take_log(load_stack(views, range(0, len(orbit.files), options.view_step), options, notes), notes)
    selected = np.array(orbit.numbers)[:: options.view_step]
    geometry = ConeBeam(vectors=rows[len(rows) - 1 - selected], detector_shape=views.shape[1:])
    grid = limit_grid(_grid(options.bin), options.max_size)
    notes.append("Volume: {} × {} × {} voxels (z, y, x) of {:.4g} mm.".format(*grid.shape, grid.spacing_mm[0]))
    return Scan(
        measurements=stack,
        geometry=bin_geometry(geometry, options.bin),
        grid=grid,
        name=path.name,
        notes=tuple(notes),
    )


def _rows(path: Path, options: WalnutOptions) -> np.ndarray:
    file = path / f"scan_geom_{options.geometry}.geom"
    rows = numbers_from(file)
    if rows.ndim != 2 or rows.shape[1] != 12 or len(rows) < 3:
        raise FileFormatError(f"{file.name} holds numbers of shape {rows.shape}; expected rows of 12. It is truncated.")
    if np.abs(rows[-1] - rows[0]).max() > 0.5 * np.abs(rows[1] - rows[0]).max():
        raise FileFormatError(
            f"{file.name} has {len(rows)} rows, whose last does not come back to the first; expected a closed orbit "
            "(1201 rows in the data set). It is truncated."
        )
    return rows


def _orbit(path: Path, n_rows: int) -> Orbit:
    found = {int(m[1]): p for p in path.iterdir() if (m := VIEW_NAME.match(p.name))}
    if 0 in found and n_rows - 1 in found:
        del found[0]
    numbers = sorted(found)
    if numbers[-1] > n_rows - 1:
        raise FileFormatError(
            f"{path.name} has view {found[numbers[-1]].name} but only {n_rows} geometry rows; the geometry file is "
            "truncated or of another orbit."
        )
    return Orbit([found[n] for n in numbers], numbers)


def _views(path: Path, orbit: Orbit) -> Views:
    flats = [load_view(path / name) for name in FLATS if (path / name).is_file()]
    if not flats:
        raise FileFormatError(f"{path.name} has no flat field ({' or '.join(FLATS)}); copy it from the data set.")
    if not (path / DARK).is_file():
        raise FileFormatError(f"{path.name} has no dark field ({DARK}); copy it from the data set.")
    dark, shape = load_view(path / DARK), flats[0].shape
    if {f.shape for f in flats} | {dark.shape} != {shape}:
        raise FileFormatError(f"The flat and dark fields of {path.name} differ in size; copy them again.")
    flat = np.asarray(np.mean(flats, axis=0, dtype=np.float32))
    full = (len(orbit.files), shape[0], shape[1])
    return Views(shape=full, load=lambda i: load_view(orbit.files[i]), flat=flat, dark=dark, integer=True)


def load_view(path: Path) -> np.ndarray:
    """One picture as (row, column) of the detector: flipped up-down, then transposed."""
    stored = load_tiff(path)
    if stored.ndim != 2:
        raise FileFormatError(f"{path.name} holds a stack of shape {stored.shape}; expected one picture.")
    return np.flipud(stored).T


def _grid(factor: int) -> VolumeGrid:
    voxel = max(VOXEL_MM, 0.5 * VOXEL_MM * factor)
    n = math.ceil(EXTENT_MM / voxel - 1e-6)
    return VolumeGrid(shape=(n, n, n), spacing_mm=(voxel, voxel, voxel))


READER = Reader(
    name="walnut",
    title="CWI walnut folder",
    expects="scan_geom_corrected.geom beside scan_000001.tif …",
    container="folder",
    extensions=(),
    sniff=sniff,
    read=read,
    options=WalnutOptions,
    holds="flats `io…`, dark `di…`; any subset of the views",
)
