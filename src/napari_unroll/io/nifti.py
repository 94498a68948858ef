"""Volumes as NIfTI-1, what neuroimaging reads: voxel sizes and place in mm, the record in a header extension.

Source: https://nifti.nimh.nih.gov/nifti-1. Arrays lie as (x, y, z) there; directions of a patient are not known here, and of
other files' the turns are left out. Needs nibabel.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_memory, check_packed, quiet
from napari_unroll.io.volume import RECORD_KEY, Volume
from napari_unroll.scan.geometry import VolumeGrid

SUFFIXES = (".nii", ".nii.gz")
COMMENT = "comment"
"""Code of the header extension that holds the record as JSON."""
LARGEST_NOTE = 100_000_000
"""Bytes of the record."""
MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3}
"""Units of length that a header names, in mm; of others mm are taken."""
QUICK = 1
"""Level of gzip: noise is hardly smaller at higher ones, and takes many times longer."""


def write(path: Path, volume: Volume, packed: bool) -> None:
    """Real or complex values, float32, complex64 or integers; ``packed``: as gzip."""
    nib = _library(path.name)
    grid = volume.grid
    affine = np.diag([*reversed(grid.spacing_mm), 1.0])
    affine[:3, 3] = grid.origin_mm[::-1]
    image = nib.Nifti1Image(volume.values.T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, "scanner")
    image.set_qform(affine, "scanner")
    image.header.extensions.append(
        nib.nifti1.Nifti1Extension(COMMENT, json.dumps({RECORD_KEY: volume.record}).encode())
    )
    with path.open("wb") as raw, _packing(raw, packed) as stream:
        image.to_stream(stream)


@contextmanager
def _packing(raw: IO[bytes], packed: bool) -> Iterator[Any]:
    if not packed:
        yield raw
        return
    with gzip.GzipFile("", "wb", QUICK, raw, mtime=0) as stream:
        yield stream


def is_ours(path: Path) -> bool:
    """Whether there is a record in the header; no for damaged files and without nibabel, of which their reader tells."""
    try:
        return _record(_opened(path)) is not None
    except Exception:
        return False


def read(path: Path) -> Volume:
    """Values, grid in mm and the record, empty in files of others."""
    image = _opened(path)
    values = _values(path, image)
    if values.ndim != 3:
        raise FileFormatError(f"{path.name} holds values of shape {values.shape}; expected one volume (z, y, x).")
    mm = MM.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = tuple(float(s) * mm for s in reversed(image.header.get_zooms()[:3]))
    last = np.array(values.shape[::-1]) - 1
    center = (image.affine @ [*(0.5 * last), 1.0])[:3][::-1] * mm
    grid = VolumeGrid(shape=values.shape, spacing_mm=spacing, center_mm=tuple(float(c) for c in center))  # type: ignore[arg-type]
    return Volume(values, grid, _record(image) or {})


def load(path: Path) -> np.ndarray:
    """The values alone, axes reversed: (z, y, x) or (t, z, y, x)."""
    return _values(path, _opened(path))


def _opened(path: Path) -> Any:
    with quiet("nibabel.global"):
        return _library(path.name).load(path)


def _library(name: str) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FileFormatError(
            f"{name} is NIfTI, which needs the package nibabel: pip install 'napari-unroll[formats]'."
        ) from error
    return nibabel


def _values(path: Path, image: Any) -> np.ndarray:
    n_bytes = int(np.prod(image.shape, dtype=np.float64)) * image.get_data_dtype().itemsize
    check_packed(path.name, n_bytes, path.stat().st_size)
    check_memory(2 * n_bytes, path.name)
    with quiet("nibabel.global"):
        values = np.asarray(image.dataobj).T
    return values.astype(values.dtype.newbyteorder("="), order="C", copy=False)


def _record(image: Any) -> dict[str, Any] | None:
    for extension in image.header.extensions:
        content = extension.get_content()
        if isinstance(content, bytes) and len(content) < LARGEST_NOTE and RECORD_KEY.encode() in content[:40]:
            found = json.loads(content.rstrip(b"\0").decode())[RECORD_KEY]
            return found if isinstance(found, dict) else None
    return None
