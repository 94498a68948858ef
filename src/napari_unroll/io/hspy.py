"""Tilt series of HyperSpy (``.hspy``): HDF5 with one group per signal, its axes and its metadata as attributes.

Source: https://hyperspy.org/rosettasciio/file_specification/hspy.html; the metadata of a tilt series as ETSpy writes them
(https://github.com/usnistgov/etspy), whose tilt axis lies along x.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.hdf5 import MM, checked, dataset, load, open_hdf5, views_of
from napari_unroll.io.number_files import angles_file
from napari_unroll.io.reader import Reader
from napari_unroll.io.tilts import TiltOptions, chosen, decided, varying
from napari_unroll.scan.scan import Scan

ROOT = "Experiments"
TOMOGRAPHY = "metadata/Tomography"
TILTS = (f"{TOMOGRAPHY}/_sig_tilts/data", f"{TOMOGRAPHY}/tilts", "metadata/Acquisition_instrument/TEM/Stage/tilt_alpha")
"""Where tilts may be, in degrees, the surest first."""


def _series(file: h5py.File) -> list[h5py.Group]:
    root = file.get(ROOT)
    groups = [root[name] for name in root] if isinstance(root, h5py.Group) else []
    return [g for g in groups if isinstance(g, h5py.Group) and (d := dataset(g, "data")) is not None and d.ndim == 3]


def sniff(path: Path) -> bool:
    """Whether it holds a stack of pictures among its experiments."""
    with open_hdf5(path) as file:
        return bool(_series(file))


def read(path: Path, options: TiltOptions) -> Scan:
    """A tilt series (tilt, y, x)."""
    with open_hdf5(path) as file:
        found = _series(file)
        group = chosen(path, found, options)
        data = checked(group["data"], 3)
        notes = [f"Stack {options.dataset + 1} of {len(found)}: {str(group.name)[:60]}."]
        tomography = group.get(TOMOGRAPHY)
        told = ""
        if isinstance(tomography, h5py.Group):
            told = "horizontal"
            notes.append("Aligned as it is stored; the shifts and the tilt axis in its metadata are not applied again.")
        options = decided(options, told, notes)
        return circular_scan(path, views_of(data, None), _facts(path, group, data.shape[0]), options, notes)


def _facts(path: Path, group: h5py.Group, n: int) -> Facts:
    angles, source = _tilts(group, n)
    beside = angles_file(path)
    column = _axis(group, 2)
    scale, unit = column.get("scale", 1.0), str(column.get("units", "")).strip().lower()
    pixel = abs(float(scale)) * MM[unit] if unit in MM and isinstance(scale, float) else None
    return Facts(angles=angles, angle_unit="degrees", angles_source=source, angles_file=beside, pixel_mm=pixel or None)


def _axis(group: h5py.Group, k: int) -> dict[str, Any]:
    axis = group.get(f"axis-{k}")
    return dict(axis.attrs) if isinstance(axis, h5py.Group) else {}


def _tilts(group: h5py.Group, n: int) -> tuple[np.ndarray | None, str]:
    """The tilts in degrees and where they were found: in the metadata, else along an axis of degrees."""
    for name in TILTS:
        stored = dataset(group, name)
        tilts = None if stored is None or stored.size != n else varying(load(stored), n)
        if tilts is not None:
            return tilts, name
    axis = _axis(group, 0)
    offset, scale = axis.get("offset"), axis.get("scale")
    if (
        str(axis.get("units", "")).lower().startswith(("deg", "°"))
        and isinstance(offset, float)
        and isinstance(scale, float)
    ):
        return offset + scale * np.arange(n), "the first axis"
    return None, ""


READER = Reader(
    name="hspy",
    title="HyperSpy tilt series",
    expects="a dataset Experiments/…/data with 3 axes",
    container="hdf5",
    extensions=(".hspy", ".hdf5"),
    sniff=sniff,
    read=read,
    options=TiltOptions,
    holds="tilts in the metadata, along an axis of degrees, beside it, or option `angles`; pixel size; the axis of ETSpy",
)
