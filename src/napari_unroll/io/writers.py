"""Results to disk: ``write(path, volume, grid, record)`` by suffix, and ``read_volume`` for the way back.

Every file carries the provenance record. Files appear under their name only when complete. It knows nothing of runs.
"""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io import dicom, fits_volume, hdf5_volume, mrc_volume, nifti, npy_volume, ome_zarr, tiff_volume
from napari_unroll.io.atomic import check_target, replacing
from napari_unroll.io.guards import MRC_SUFFIXES, container, translated
from napari_unroll.io.volume import Volume, checked_volume
from napari_unroll.scan.geometry import VolumeGrid

HDF5_SUFFIXES = (".h5", ".hdf5", ".nxs")
LARGE_BYTES = 2**30
"""A volume beyond it is not read at once for a viewer."""
SUFFIXES = (
    ".ome.zarr",
    ".ome.tif",
    ".ome.tiff",
    ".tif",
    ".tiff",
    ".npy",
    *HDF5_SUFFIXES,
    *nifti.SUFFIXES,
    *fits_volume.SUFFIXES,
)
"""What can be written; a longer one before what it ends with."""


def suffix_of(path: Path | str) -> str:
    """The suffix that decides the format. Raises ParameterError naming the known ones."""
    name = Path(path).name.lower()
    found = next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), None)
    if found is None:
        raise ParameterError(f"Results are written as {', '.join(SUFFIXES)}; got the name {Path(path).name!r}.")
    return found


def write(
    path: Path | str,
    volume: np.ndarray,
    grid: VolumeGrid,
    record: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    chunk: tuple[int, int, int] = (64, 64, 64),
) -> Path:
    """Write a volume (z, y, x) with its grid and provenance record; the suffix decides the format.

    Complex volumes become two channels, magnitude and phase (in .npy, HDF5 and NIfTI they stay complex); real ones are stored as
    float32 or small integers. ``chunk`` (z, y, x) is for OME-Zarr. Refuses to replace anything unless ``overwrite``.

    Raises ParameterError for an unknown suffix, a wrong shape or a name that is taken.
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    checked = checked_volume(volume, grid, _naming(path, record or {}))
    check_result(path, overwrite)
    with replacing(path, overwrite=overwrite) as temporary:
        if suffix == ".ome.zarr":
            ome_zarr.write(temporary, checked, _checked_chunk(chunk))
        elif suffix == ".npy":
            npy_volume.write(temporary, checked)
            with replacing(npy_volume.sidecar(path), overwrite=overwrite) as side:
                npy_volume.write_sidecar(side, checked)
        elif suffix in HDF5_SUFFIXES:
            hdf5_volume.write(temporary, checked)
        elif suffix in nifti.SUFFIXES:
            nifti.write(temporary, checked, packed=suffix.endswith(".gz"))
        elif suffix in fits_volume.SUFFIXES:
            fits_volume.write(temporary, checked)
        else:
            tiff_volume.write(temporary, checked, ome=suffix.startswith(".ome"))
    return path


def check_result(path: Path, overwrite: bool, n_bytes: int = 0) -> None:
    """Raise ParameterError where a volume surely cannot be written to ``path``, or what lies beside it."""
    check_target(path, overwrite, n_bytes)
    if suffix_of(path) == ".npy":
        check_target(npy_volume.sidecar(path), overwrite)


def _naming(path: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record whose command, which repeats the run, names where its volume really is."""
    line, out, _ = str(record.get("command", "")).rpartition(" --out ")
    return {**record, "command": f"{line}{out}{shlex.quote(str(path))}"} if out else record


def write_somewhere(
    path: Path,
    volume: np.ndarray,
    grid: VolumeGrid,
    record: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> tuple[Path, str]:
    """As :func:`write`, but a finished volume is never lost: what ``path`` refuses goes into a new temporary folder.

    Returns where it is, and why it is not at ``path`` in words, or "". Raises the first error where nothing can be written.
    """
    try:
        return write(path, volume, grid, record, overwrite=overwrite), ""
    except (OSError, ParameterError) as error:
        try:
            folder = Path(tempfile.mkdtemp(prefix="napari-unroll-"))
            saved = write(folder / f"result{suffix_of(path)}", volume, grid, record)
        except (OSError, ParameterError):
            raise error from None
        return saved, f"{path} could not be written ({error}); the volume is in {saved}."


def _checked_chunk(chunk: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(chunk) != 3 or min(chunk) < 1:
        raise ParameterError(f"A chunk needs three positive sizes (z, y, x); got {chunk}.")
    return chunk


def is_result(path: Path | str) -> bool:
    """Whether a path holds a volume with a record of how it was made, as :func:`write` leaves one."""
    path = Path(path).expanduser()
    name = path.name.lower()
    if name.endswith(".ome.zarr"):
        return path.is_dir()
    if name.endswith(".npy"):
        return npy_volume.is_ours(path)
    if name.endswith(HDF5_SUFFIXES):
        return path.is_file() and _is_hdf5_result(path)
    if name.endswith(nifti.SUFFIXES):
        return path.is_file() and nifti.is_ours(path)
    if name.endswith(fits_volume.SUFFIXES):
        return path.is_file() and fits_volume.is_ours(path)
    return name.endswith((".tif", ".tiff")) and path.is_file() and tiff_volume.is_ours(path)


def _is_hdf5_result(path: Path) -> bool:
    """No for an empty or damaged file, of which its reader says what is wrong."""
    try:
        return container(path) == "hdf5" and hdf5_volume.sniff(path)
    except FileFormatError:
        return False


def is_large(path: Path) -> bool:
    """Whether a store is better read where it is looked at: it is large, or a run that is still going on writes it."""
    if not (path.is_dir() and path.name.lower().endswith(".zarr")):
        return False
    if not ome_zarr.holds_volume(path):
        return True
    shape, itemsize = ome_zarr.size_of(path)
    return math.prod(shape) * itemsize > LARGE_BYTES


def is_volume(path: Path | str) -> bool:
    """Whether it is opened as a volume: a result, a NIfTI file, a zarr store, or a DICOM series.

    TIFF and MRC files of other programs may be projections.
    """
    path = Path(path).expanduser()
    is_other = path.name.lower().endswith((*nifti.SUFFIXES, ".zarr"))
    return is_other or is_result(path) or _is_series(path)


def _is_series(path: Path) -> bool:
    return dicom.is_dicom(path) or (path.is_dir() and bool(dicom.dicom_files(path)))


def read_volume(path: Path | str) -> Volume:
    """A volume written by :func:`write`, or one of another program that says where its voxels lie.

    That is NIfTI, OME-Zarr, OME-TIFF, ImageJ's TIFF with spacing, MRC, or a DICOM series by its folder or one of its files.
    Raises FileFormatError when it is missing, damaged, or neither.
    """
    path = Path(path).expanduser()
    container(path)
    if _is_series(path):
        with translated(path, "a DICOM series"):
            return dicom.read(path)
    with translated(path, "a volume"):
        if path.is_dir() and path.name.lower().endswith(".zarr"):
            return ome_zarr.read(path)
        if path.name.lower().endswith(MRC_SUFFIXES):
            return mrc_volume.read(path)
        suffix = suffix_of(path)
        if suffix in HDF5_SUFFIXES:
            return hdf5_volume.read(path)
        if suffix in nifti.SUFFIXES:
            return nifti.read(path)
        if suffix in fits_volume.SUFFIXES:
            return fits_volume.read(path)
        if suffix == ".npy":
            return npy_volume.read(path)
        return tiff_volume.read(path) if tiff_volume.is_ours(path) else tiff_volume.read_other(path)
