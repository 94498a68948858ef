"""Our own scan file (HDF5): everything a Scan holds, read back bit for bit.

Layout: root attributes ``napari_unroll_scan`` (version), name, notes, provenance; datasets measurements, csm, truth;
groups geometry and grid.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.atomic import replacing
from napari_unroll.io.hdf5 import checked, dataset, load, open_hdf5
from napari_unroll.io.reader import Reader, ReaderOptions
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, Geometry, ParallelBeam, VolumeGrid
from napari_unroll.scan.scan import Provenance, Scan

VERSION = 1
MARK = "napari_unroll_scan"
BEAMS: dict[str, type[ConeBeam] | type[ParallelBeam]] = {"ConeBeam": ConeBeam, "ParallelBeam": ParallelBeam}


class ScanFileOptions(ReaderOptions):
    """A scan file leaves nothing open."""


def write_scan(path: Path | str, scan: Scan, *, overwrite: bool = False) -> Path:
    """Write a scan; refuses to replace a file unless told to. Returns the path."""
    path = Path(path)
    with replacing(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs[MARK] = VERSION
        file.attrs["name"] = scan.name
        file.attrs["notes"] = json.dumps(scan.notes)
        file.attrs["provenance"] = json.dumps(asdict(scan.provenance))
        for name in ("measurements", "csm", "truth"):
            if (values := getattr(scan, name)) is not None:
                file.create_dataset(name, data=np.ascontiguousarray(values))
        _write_grid(file.create_group("grid"), scan.grid)
        _write_geometry(file.create_group("geometry"), scan.geometry)
    return path


def _write_grid(group: h5py.Group, grid: VolumeGrid) -> None:
    for name, value in asdict(grid).items():
        group.attrs[name] = value


def _write_geometry(group: h5py.Group, geometry: Geometry) -> None:
    group.attrs["type"] = type(geometry).__name__
    if isinstance(geometry, CartesianSampling):
        group.attrs["n_coils"] = geometry.n_coils
        group.create_dataset("mask", data=geometry.mask)
    else:
        group.attrs["detector_shape"] = geometry.detector_shape
        group.create_dataset("vectors", data=geometry.vectors)


def sniff(path: Path) -> bool:
    """Does it carry our mark?"""
    with open_hdf5(path) as file:
        return MARK in file.attrs


def read_scan(path: Path | str) -> Scan:
    """The scan of a file made by :func:`write_scan`, with identical values."""
    return read(Path(path), ScanFileOptions())


def read(path: Path, options: ScanFileOptions) -> Scan:
    """The reader behind :func:`read_scan`."""
    with open_hdf5(path) as file:
        version = int(file.attrs.get(MARK, 0))
        if not 1 <= version <= VERSION:
            raise FileFormatError(
                f"{path.name} is a scan file of version {version}; this program reads up to {VERSION}. Update it."
            )
        arrays = {name: _optional(file, name) for name in ("csm", "truth")}
        return Scan(
            measurements=load(_needed(file, "measurements")),
            geometry=_read_geometry(file),
            grid=VolumeGrid(**{k: tuple(v.tolist()) for k, v in file["grid"].attrs.items()}),
            name=str(file.attrs["name"]),
            notes=tuple(json.loads(file.attrs["notes"])),
            provenance=_read_provenance(json.loads(file.attrs["provenance"])),
            **arrays,
        )


def _needed(file: h5py.File, name: str) -> h5py.Dataset:
    found = dataset(file, name)
    if found is None:
        raise FileFormatError(f"The scan file lacks '{name}'; it was not written to the end. Write it again.")
    return found


def _optional(file: h5py.File, name: str) -> np.ndarray | None:
    found = dataset(file, name)
    return None if found is None else load(found)


def _read_geometry(file: h5py.File) -> Geometry:
    attrs = file["geometry"].attrs
    if attrs["type"] == "CartesianSampling":
        return CartesianSampling(mask=load(_needed(file, "geometry/mask"), 3), n_coils=int(attrs["n_coils"]))
    if attrs["type"] not in BEAMS:
        raise FileFormatError(f"The scan file has an unknown geometry {attrs['type']!r}; update this program.")
    vectors = load(checked(_needed(file, "geometry/vectors"), 2))
    return BEAMS[attrs["type"]](vectors=vectors, detector_shape=tuple(attrs["detector_shape"].tolist()))


def _read_provenance(stored: dict[str, Any]) -> Provenance:
    options = tuple((str(k), v) for k, v in stored.pop("options", ()))
    return Provenance(**stored, options=options)


READER = Reader(
    name="scan",
    title="napari-unroll scan file",
    expects="written by write_scan",
    container="hdf5",
    extensions=(".h5",),
    sniff=sniff,
    read=read,
    options=ScanFileOptions,
)
