"""Volumes as NeXus HDF5, in the layout of processed tomography (NXtomoproc): what beamlines' viewers open.

Source: https://manual.nexusformat.org/classes/applications/NXtomoproc.html. Complex volumes stay complex.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from napari_unroll import __version__
from napari_unroll.errors import FileFormatError
from napari_unroll.io.hdf5 import dataset, load, open_hdf5, text_of, unit
from napari_unroll.io.volume import Volume
from napari_unroll.scan.geometry import VolumeGrid

DATA = "entry/data/data"
NOTE = "entry/reconstruction/parameters/record"
LARGEST_NOTE = 100_000_000
"""Bytes of the record."""


def write(path: Path, volume: Volume) -> None:
    """Values in ``entry/data`` with the positions of their voxels in mm; the record as JSON beside them."""
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry", "NXentry")
        file.attrs["default"] = "entry"
        entry.attrs["default"] = "data"
        entry["definition"] = "NXtomoproc"
        entry["title"] = str(volume.record.get("title", "reconstruction"))
        process = _group(entry, "reconstruction", "NXprocess")
        process["program"], process["version"] = "napari-unroll", __version__
        process["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        _group(process, "parameters", "NXparameters")
        file[NOTE] = json.dumps(volume.record)
        data = _group(entry, "data", "NXdata")
        data.attrs.update({"signal": "data", "axes": ["z", "y", "x"]})
        data["data"] = volume.values
        for axis, origin, step, n in zip(
            "zyx", volume.grid.origin_mm, volume.grid.spacing_mm, volume.grid.shape, strict=True
        ):
            data[axis] = origin + step * np.arange(n)
            data[axis].attrs.update({"units": "mm", "step": step})


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def sniff(path: Path) -> bool:
    """Whether there is a volume as :func:`write` makes it."""
    with open_hdf5(path) as file:
        return dataset(file, DATA) is not None and dataset(file, NOTE) is not None


def read(path: Path) -> Volume:
    """Values, grid in mm and record."""
    with open_hdf5(path) as file:
        found, note = dataset(file, DATA), dataset(file, NOTE)
        if found is None or note is None:
            raise FileFormatError(f"{path.name} has no {DATA} with a record; it is no volume written by napari-unroll.")
        axes = [_axis(path, file, name, n) for name, n in zip("zyx", found.shape, strict=True)]
        spacing, center = zip(*axes, strict=True)
        grid = VolumeGrid(shape=found.shape, spacing_mm=spacing, center_mm=center)
        return Volume(load(found, 3), grid, json.loads(text_of(note, LARGEST_NOTE)))


def _axis(path: Path, file: h5py.File, name: str, n: int) -> tuple[float, float]:
    """Spacing and centre in mm of the positions along an axis."""
    data = dataset(file, f"entry/data/{name}")
    if data is None or data.shape != (n,) or unit(data) != "mm" or "step" not in data.attrs:
        raise FileFormatError(f"{path.name} lacks the positions of its {n} voxels along {name} in mm; it is damaged.")
    positions = load(data, 1)
    return float(data.attrs["step"]), float(0.5 * (positions[0] + positions[-1]))
