"""NXtomo (NeXus HDF5): frames with an image key and a rotation angle each.

Groups are found by the names of their datasets, never by a fixed path; the data axes are (frame, row, column).
Source: https://manual.nexusformat.org/classes/applications/NXtomo.html.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import MM, checked, datasets_named, load, open_hdf5, unit, views_of
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Field as ViewField
from napari_unroll.io.views import between, later
from napari_unroll.scan.scan import Scan

PROJECTION, FLAT, DARK = 0, 1, 2


class NxtomoOptions(CircularOptions):
    """The options of circular scans, and which flat field."""

    flats: Literal["mean", "interpolated"] = Field(
        default="mean",
        description="Flat field of a view: mean of all, or between those before and after the views by its time.",
    )


@dataclass(frozen=True)
class Parts:
    """What an NXtomo file holds: frames, a key and an angle per frame (or per projection)."""

    data: h5py.Dataset
    key: np.ndarray
    angle: h5py.Dataset | None


def sniff(path: Path) -> bool:
    """Whether it defines NXtomo, or has image keys or rotation angles beside a stack of frames."""
    with open_hdf5(path) as file:
        defined = any(_text(d) == "NXtomo" for d in datasets_named(file, "definition"))
        named = datasets_named(file, "image_key") or datasets_named(file, "rotation_angle")
        return defined or bool(named and _stacks(file))


def _text(data: h5py.Dataset) -> str:
    value = data[()] if data.shape == () else ""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _stacks(file: h5py.File) -> list[h5py.Dataset]:
    return [d for d in datasets_named(file, "data") if d.ndim == 3]


def read(path: Path, options: NxtomoOptions) -> Scan:
    """Projections corrected by the flat and dark frames."""
    with open_hdf5(path) as file:
        parts = _parts(path, file)
        frames = {kind: np.flatnonzero(parts.key == kind) for kind in (PROJECTION, FLAT, DARK)}
        counts = (len(frames[PROJECTION]), len(frames[FLAT]), len(frames[DARK]))
        notes = ["{} projections, {} flats, {} darks by image_key.".format(*counts)]
        darks = frames[DARK]
        dark = later(lambda: _mean(parts.data, darks)) if len(darks) else 0.0
        views = views_of(parts.data, frames[PROJECTION], flat=_flat(parts, frames, options, notes), dark=dark)
        return circular_scan(path, views, _facts(file, parts, frames[PROJECTION]), options, notes)


def _flat(
    parts: Parts, frames: dict[int, np.ndarray], options: NxtomoOptions, notes: list[str]
) -> Callable[[int], ViewField] | None:
    """The mean flat field, or that between the first and the last series of flats at the time of a view."""
    flats, projections = frames[FLAT], frames[PROJECTION]
    first, last = flats[flats < projections[0]], flats[flats > projections[-1]]
    if options.flats == "mean" or not len(first) or not len(last):
        return later(lambda: _mean(parts.data, flats)) if len(flats) else None
    notes.append(f"Flat field between the {len(first)} flats before and the {len(last)} after the views, by time.")
    when = (projections - first.mean()) / (last.mean() - first.mean())
    return later(lambda: between(_mean(parts.data, first), _mean(parts.data, last), when))


def _parts(path: Path, file: h5py.File) -> Parts:
    stacks = _stacks(file)
    if not stacks:
        raise FileFormatError(f"{path.name} is NXtomo without frames: no dataset 'data' with 3 axes.")
    data = checked(stacks[0], 3)
    n = data.shape[0]
    keys = [d for d in datasets_named(file, "image_key") if d.size == n]
    if not keys and datasets_named(file, "image_key"):
        raise FileFormatError(f"{path.name} has {n} frames but no image_key of that length; it is incomplete.")
    key = np.ravel(load(keys[0])) if keys else np.zeros(n, int)
    if not (key == PROJECTION).any():
        raise FileFormatError(f"{path.name} marks none of its {n} frames as a projection (image_key 0).")
    angles = datasets_named(file, "rotation_angle")
    return Parts(data, key, next((a for a in angles if a.size in (n, int((key == PROJECTION).sum()))), None))


def _mean(data: h5py.Dataset, frames: np.ndarray) -> np.ndarray:
    check_memory(16 * data.shape[1] * data.shape[2], "a mean frame")
    total = np.zeros(data.shape[1:], np.float64)
    for i in frames:
        check()
        total += data[int(i)]
    return np.asarray(total / len(frames), np.float32)


def _facts(file: h5py.File, parts: Parts, projections: np.ndarray) -> Facts:
    pixel = _pixel_mm(file)
    if parts.angle is None:
        return Facts(pixel_mm=pixel)
    angles = np.ravel(load(parts.angle))
    angles = angles[projections] if len(angles) == len(parts.key) else angles
    return Facts(angles=angles, angle_unit=unit(parts.angle), angles_source=str(parts.angle.name), pixel_mm=pixel)


def _pixel_mm(file: h5py.File) -> float | None:
    """The pixel pitch; programs that do not know it leave 0."""
    found = [d for d in datasets_named(file, "x_pixel_size") if unit(d) in MM]
    if not found:
        return None
    size = float(np.ravel(load(found[0]))[0]) * MM[unit(found[0])]
    return size or None


READER = Reader(
    name="nxtomo",
    title="NXtomo (NeXus HDF5)",
    expects="image_key or rotation_angle beside a dataset data",
    container="hdf5",
    extensions=(".nxs", ".h5", ".hdf5"),
    sniff=sniff,
    read=read,
    options=NxtomoOptions,
    holds="frames with image keys and angles, wherever in the tree they lie",
)
