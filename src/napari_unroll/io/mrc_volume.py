"""Volumes as MRC, which electron microscopes and their programs write: values, and voxel sizes in Å. Read only.

Source: https://www.ccpem.ac.uk/mrc_format/mrc2014.php.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import mrcfile
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_declared, check_memory
from napari_unroll.io.volume import Volume
from napari_unroll.scan.geometry import VolumeGrid

ANGSTROM_MM = 1e-7


def read(path: Path) -> Volume:
    """Values (z, y, x) and their grid in mm. Raises FileFormatError where the header has no voxel size."""
    values, voxel = _read(path)
    if values.ndim != 3 or not min(voxel) > 0:
        raise FileFormatError(
            f"{path.name} holds values of shape {values.shape} with voxels of {voxel} Å; expected a volume with its voxel size."
        )
    spacing = tuple(ANGSTROM_MM * v for v in voxel)
    return Volume(values, VolumeGrid(shape=values.shape, spacing_mm=spacing), {})  # type: ignore[arg-type]


def load(path: Path) -> np.ndarray:
    """The values alone."""
    return _read(path)[0]


def _read(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Values, and the voxel size (z, y, x) in Å, zero where the header does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True, header_only=True) as file:
            count = int(file.header.nx) * int(file.header.ny) * int(file.header.nz)
        check_declared(path, count, f"{count} voxels")
        check_memory(4 * count, path.name)
        with mrcfile.open(path, permissive=True) as file:
            size = file.voxel_size
            return np.array(file.data), (float(size.z), float(size.y), float(size.x))
