"""Orbits of the CWI walnut data set, one or all of a walnut: cone-beam views, flats, dark and one geometry row per view.

Rows pair with files in reverse order (row 1200 − k belongs to file k) and every picture is flipped up-down and
transposed, as in the data set's own loading scripts.
Source: H. Der Sarkissian et al., A cone-beam X-ray CT data collection designed for machine learning, Sci. Data 6:215
(2019), doi:10.1038/s41597-019-0235-y.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.io.corrections import correct, harden, optics_of
from napari_unroll.io.ct_options import CorrectionOptions
from napari_unroll.io.number_files import numbers_from
from napari_unroll.io.pictures import load_tiff
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views, between, chosen_views, load_stack, part_of, take_log
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.grids import bin_geometry, crop_geometry, limit_grid, planes_seen
from napari_unroll.scan.scan import Scan

VIEW_NAME = re.compile(r"^scan_(\d{6})\.tiff?$")
FLATS = ("io000000.tif", "io000001.tif")
DARK = "di000000.tif"
EXTENT_MM = 50.1
VOXEL_MM = 0.1
"""The data set's own reconstructions: 501³ voxels of 0.1 mm."""


class WalnutOptions(CorrectionOptions):
    """How much of the orbits is loaded, which of the two geometry files, and which flat field."""

    geometry: Literal["corrected", "original"] = Field(
        default="corrected", description="Geometry rows: after the data set's own correction, or as the scanner wrote."
    )
    flats: Literal["mean", "interpolated"] = Field(
        default="mean", description="Flat field of a view: mean of those before and after, or between them by its time."
    )


@dataclass(frozen=True)
class Orbit:
    """One orbit: its view files in ascending order, a geometry row (view, 12) each, and its fields.

    ``flat`` gives the flat field of a view; ``notes`` say what was found.
    """

    files: list[Path]
    vectors: np.ndarray
    flat: Callable[[int], np.ndarray]
    dark: np.ndarray
    notes: list[str]


def sniff(path: Path) -> bool:
    """A folder with geometry rows and numbered views."""
    return any(path.glob("scan_geom_*.geom")) and any(VIEW_NAME.match(p.name) for p in path.iterdir())


def _orbits_in(path: Path) -> list[Path]:
    """The folders tubeV1, tubeV2, … of a walnut, directly in it or in its folder Projections."""
    places = (path, path / "Projections")
    return [f for place in places if place.is_dir() for f in sorted(place.glob("tubeV*")) if f.is_dir() and sniff(f)]


def sniff_set(path: Path) -> bool:
    """A folder with orbits in folders of their own."""
    return bool(_orbits_in(path))


def read(path: Path, options: WalnutOptions) -> Scan:
    """Whatever views the folder has, with the geometry rows of their file numbers."""
    return _scan(path, [_orbit(path, options)], options, [])


def read_set(path: Path, options: WalnutOptions) -> Scan:
    """All orbits of a walnut in one scan, one after the other."""
    folders = _orbits_in(path)
    notes = [f"{len(folders)} orbits in one scan: {', '.join(f.name for f in folders)}."]
    return _scan(path, [_orbit(f, options) for f in folders], options, notes)


def _scan(path: Path, orbits: list[Orbit], options: WalnutOptions, notes: list[str]) -> Scan:
    shape = orbits[0].dark.shape
    if any(orbit.dark.shape != shape for orbit in orbits):
        raise FileFormatError(
            f"The orbits of {path.name} have pictures of different sizes; they are not of one walnut."
        )
    notes += [note for orbit in orbits for note in orbit.notes]
    owner = [(orbit, k) for orbit in orbits for k in range(len(orbit.files))]
    views = Views(
        shape=(len(owner), shape[0], shape[1]),
        load=lambda i: load_view(owner[i][0].files[owner[i][1]]),
        flat=lambda i: owner[i][0].flat(owner[i][1]),
        dark=lambda i: owner[i][0].dark,
        integer=True,
    )
    chosen, rows = chosen_views(len(owner), options), part_of(shape[0], options.rows, "rows")
    stack = take_log(load_stack(views.cropped(rows), range(len(owner))[chosen], options, notes), notes)
    vectors = np.concatenate([orbit.vectors for orbit in orbits])[chosen]
    geometry = crop_geometry(ConeBeam(vectors=vectors, detector_shape=views.shape[1:]), rows)
    correct(stack, options, optics_of(geometry).binned(options.bin), notes)
    harden(stack, bin_geometry(geometry, options.bin), options, notes)
    grid = _grid(options.bin)
    if len(rows) < shape[0]:
        grid = planes_seen(grid, geometry)
        notes.append(f"Rows {rows[0]} to {rows[-1]} of {shape[0]}.")
    grid = limit_grid(grid, options.max_size)
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


def _orbit(path: Path, options: WalnutOptions) -> Orbit:
    rows = _rows(path, options)
    last = len(rows) - 1
    found = {int(m[1]): p for p in path.iterdir() if (m := VIEW_NAME.match(p.name))}
    if 0 in found and last in found:
        del found[0]
    numbers = np.array(sorted(found))
    if numbers[-1] > last:
        raise FileFormatError(
            f"{path.name} has view {found[numbers[-1]].name} but only {len(rows)} geometry rows; the geometry file is "
            "truncated or of another orbit."
        )
    flats, dark = _fields(path)
    flat, how = _flat(flats, numbers / last, options)
    notes = [
        f"Read {len(numbers)} of {last} views, files {numbers[0]} … {numbers[-1]}; flipped and transposed as the data set's "
        "scripts do.",
        f"Geometry rows {last} − file number of scan_geom_{options.geometry}.geom; dark and {how} flat applied.",
    ]
    return Orbit([found[n] for n in numbers], rows[last - numbers], flat, dark, notes)


def _flat(flats: list[np.ndarray], when: np.ndarray, options: WalnutOptions) -> tuple[Callable[[int], np.ndarray], str]:
    """The flat field of a view, and what it is in a word; pictures are taken in the order of their numbers."""
    if options.flats == "interpolated" and len(flats) == 2:
        return between(flats[0], flats[1], when), "interpolated"
    mean = np.asarray(np.mean(flats, axis=0, dtype=np.float32))
    return lambda i: mean, "mean"


def _fields(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The flat fields, float32, and the dark field."""
    flats = [load_view(path / name).astype(np.float32) for name in FLATS if (path / name).is_file()]
    if not flats:
        raise FileFormatError(f"{path.name} has no flat field ({' or '.join(FLATS)}); copy it from the data set.")
    if not (path / DARK).is_file():
        raise FileFormatError(f"{path.name} has no dark field ({DARK}); copy it from the data set.")
    dark = load_view(path / DARK)
    if {f.shape for f in flats} != {dark.shape}:
        raise FileFormatError(f"The flat and dark fields of {path.name} differ in size; copy them again.")
    return flats, dark


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
SET_READER = Reader(
    name="walnut-set",
    title="CWI walnut with all its orbits",
    expects="folders tubeV1, tubeV2, … with an orbit each",
    container="folder",
    extensions=(),
    sniff=sniff_set,
    read=read_set,
    options=WalnutOptions,
    holds="every orbit as in the CWI walnut folder; also beneath a folder Projections",
)
