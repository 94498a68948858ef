"""Our own scan file (HDF5): everything a Scan holds, read back bit for bit.

Layout: root attribute ``napari_unroll_scan`` (version); dataset ``about``, JSON in UTF-8 bytes with name, notes,
provenance, grid and geometry; datasets measurements, csm, truth, and vectors, mask, kernel, or trajectory and weights of
the geometry.
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
from napari_unroll.io.guards import container, translated
from napari_unroll.io.hdf5 import dataset, load, open_hdf5
from napari_unroll.io.reader import Reader, ReaderOptions
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.scan import Geometry, Provenance, Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

VERSION = 1
MARK = "napari_unroll_scan"
BEAMS: dict[str, type[ConeBeam] | type[ParallelBeam]] = {"ConeBeam": ConeBeam, "ParallelBeam": ParallelBeam}


class ScanFileOptions(ReaderOptions):
    """A scan file leaves nothing open."""


def write_scan(path: Path | str, scan: Scan, *, overwrite: bool = False) -> Path:
    """Write a scan; refuses to replace a file unless told to. Returns the path."""
    path = Path(path)
    about = json.dumps(_about(scan)).encode()
    arrays = {name: getattr(scan, name) for name in ("measurements", "csm", "truth")}
    with replacing(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs[MARK] = VERSION
        file.create_dataset("about", data=np.frombuffer(about, np.uint8))
        for name, values in (arrays | _geometry_array(scan.geometry)).items():
            if values is not None:
                file.create_dataset(name, data=np.ascontiguousarray(values))
    return path


def _about(scan: Scan) -> dict[str, Any]:
    return {
        "name": scan.name,
        "notes": scan.notes,
        "provenance": asdict(scan.provenance),
        "grid": asdict(scan.grid),
        "geometry": {"type": type(scan.geometry).__name__} | _counts(scan.geometry),
    }


def _counts(geometry: Geometry) -> dict[str, Any]:
    if isinstance(geometry, (CartesianSampling, NonCartesianSampling)):
        return {"n_coils": geometry.n_coils}
    if isinstance(geometry, BlurredSampling):
        return {"factor": geometry.factor}
    return {"detector_shape": geometry.detector_shape}


def _geometry_array(geometry: Geometry) -> dict[str, np.ndarray]:
    if isinstance(geometry, NonCartesianSampling):
        return {"trajectory": geometry.trajectory, "weights": np.asarray(geometry.weights)}
    if isinstance(geometry, BlurredSampling):
        return {"kernel": geometry.kernel}
    return {"mask": geometry.mask} if isinstance(geometry, CartesianSampling) else {"vectors": geometry.vectors}


def sniff(path: Path) -> bool:
    """Whether it was written by :func:`write_scan`."""
    with open_hdf5(path) as file:
        return MARK in file.attrs


def read_scan(path: Path | str) -> Scan:
    """The scan of a file made by :func:`write_scan`, with identical values."""
    path = Path(path)
    with translated(path, READER.title):
        container(path)
        return read(path, ScanFileOptions())


def read(path: Path, options: ScanFileOptions) -> Scan:
    """The reader behind :func:`read_scan`."""
    with open_hdf5(path) as file:
        version = int(file.attrs.get(MARK, 0))
        if not 1 <= version <= VERSION:
            raise FileFormatError(
                f"{path.name} is a scan file of version {version}; this program reads up to {VERSION}. Update it."
            )
        about = json.loads(load(_needed(file, "about"), 1).tobytes())
        return Scan(
            measurements=load(_needed(file, "measurements")),
            geometry=_read_geometry(file, about["geometry"], tuple(about["grid"]["shape"])),
            grid=VolumeGrid(**about["grid"]),
            name=about["name"],
            notes=tuple(about["notes"]),
            provenance=_read_provenance(about["provenance"]),
            csm=_optional(file, "csm"),
            truth=_optional(file, "truth"),
        )


def _needed(file: h5py.File, name: str) -> h5py.Dataset:
    found = dataset(file, name)
    if found is None:
        raise FileFormatError(f"The scan file lacks '{name}'; it was not written to the end. Write it again.")
    return found


def _optional(file: h5py.File, name: str) -> np.ndarray | None:
    found = dataset(file, name)
    return None if found is None else load(found)


def _read_geometry(file: h5py.File, about: dict[str, Any], shape: tuple[int, int, int]) -> Geometry:
    if about["type"] == "NonCartesianSampling":
        trajectory, weights = load(_needed(file, "trajectory"), 3), load(_needed(file, "weights"), 2)
        return NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=about["n_coils"], weights=weights)
    if about["type"] == "CartesianSampling":
        return CartesianSampling(mask=load(_needed(file, "mask"), 3), n_coils=about["n_coils"])
    if about["type"] == "BlurredSampling":
        return BlurredSampling(kernel=load(_needed(file, "kernel"), 3), shape=shape, factor=tuple(about["factor"]))
    if about["type"] not in BEAMS:
        raise FileFormatError(f"The scan file has an unknown geometry {about['type']!r}; update this program.")
    return BEAMS[about["type"]](vectors=load(_needed(file, "vectors"), 2), detector_shape=about["detector_shape"])


def _read_provenance(stored: dict[str, Any]) -> Provenance:
    options, edits = (tuple((str(k), v) for k, v in stored.pop(name, ())) for name in ("options", "edits"))
    return Provenance(**stored, options=options, edits=edits)


READER = Reader(
    name="scan",
    title="napari-unroll scan file",
    expects="written by write_scan",
    container="hdf5",
    extensions=(".h5",),
    sniff=sniff,
    read=read,
    options=ScanFileOptions,
    holds="everything, bit for bit",
)
