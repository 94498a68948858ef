"""Volumes of whatever origin, as plain arrays: what networks are trained on. Scale and units are not interpreted.

TIFF stacks, folders of TIFF or DICOM slices, .npy, .npz, NIfTI (with nibabel), MRC, FITS, HDF5, OME-Zarr. Sizes are checked
before anything is allocated. Knows no scans.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import stage
from napari_unroll.io import dicom, fits_stack, mrc_volume, nifti, ome_zarr
from napari_unroll.io.guards import MRC_SUFFIXES, check_memory, translated
from napari_unroll.io.hdf5 import load, objects, open_hdf5
from napari_unroll.io.npy_header import Archive, load_npy
from napari_unroll.io.pictures import TIFF_SUFFIXES, load_tiff, natural, tiff_files

HDF5_SUFFIXES = (".h5", ".hdf5", ".nxs")
KINDS = "tif, npy, npz, nii, nii.gz, mrc, fits, h5, ome.zarr, or folders of TIFF or DICOM slices"


def volume_files(folder: Path | str) -> list[Path]:
    """The volumes of a folder in the order of their names; the folder itself where it holds the slices of one.

    Raises FileFormatError where there is no folder or no volume in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileFormatError(f"There is no folder {folder}; give a folder of volumes ({KINDS}).")
    slices = tiff_files(folder)
    if len(slices) > 1 and load_tiff(slices[0]).ndim == 2:
        return [folder]
    if dicom.dicom_files(folder):
        return [folder]
    found = sorted((p for p in folder.iterdir() if _reader(p) is not None), key=natural)
    if not found:
        raise FileFormatError(f"The folder {folder} holds no volume; expected files of {KINDS}.")
    return found


def read_any_volume(path: Path | str) -> np.ndarray:
    """The volume (z, y, x), float32 or complex64; unit axes are dropped.

    Raises FileFormatError where the file is damaged, too large for the memory, or no volume.
    """
    path = Path(path).expanduser()
    read = _reader(path)
    if read is None:
        raise FileFormatError(f"{path.name} is no volume that is read here; expected {KINDS}.")
    with translated(path, "a volume"):
        values = read(path)
        values = values.reshape([n for n in values.shape if n > 1])
        if values.ndim != 3 or values.dtype.kind not in "biufc":
            raise FileFormatError(
                f"{path.name} holds {values.dtype} of shape {values.shape}; expected a volume of three axes (z, y, x)."
            )
        check_memory(8 * values.size, path.name)
        values = values.astype(np.complex64 if values.dtype.kind == "c" else np.float32)
        if not np.isfinite(values).all():
            raise FileFormatError(f"{path.name} holds NaN or infinity; repair it or take it out of the folder.")
        return values


def _reader(path: Path) -> Callable[[Path], np.ndarray] | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    if path.is_dir():
        if name.endswith(".zarr"):
            return lambda p: ome_zarr.read(p).values
        if len(tiff_files(path)) > 1:
            return _read_slices
        return (lambda p: dicom.read(p).values) if dicom.dicom_files(path) else None
    return next((read for suffixes, read in READERS.items() if name.endswith(suffixes)), None)


def _read_slices(folder: Path) -> np.ndarray:
    files = tiff_files(folder)
    first = load_tiff(files[0])
    check_memory(4 * first.size * len(files), folder.name)
    values = np.empty((len(files), *first.shape), np.float32)
    with stage(len(files), "reading slices") as done:
        for k, file in enumerate(files):
            done(k)
            values[k] = _like(first, load_tiff(file), folder)
    return values


def _like(first: np.ndarray, one: np.ndarray, folder: Path) -> np.ndarray:
    if one.shape != first.shape:
        raise FileFormatError(f"The slices in {folder.name} differ in size; keep one volume per folder.")
    return one


def _read_npz(path: Path) -> np.ndarray:
    archive = Archive(path)
    return archive.load(max(archive.headers, key=lambda name: archive.headers[name].n_bytes))


def _read_hdf5(path: Path) -> np.ndarray:
    """The dataset ``truth`` of our scan files, else the largest one of three axes."""
    with open_hdf5(path) as file:
        found = [d for _, d in objects(file) if isinstance(d, h5py.Dataset) and d.ndim == 3 and d.dtype.kind in "biufc"]
        if not found:
            raise FileFormatError(f"{path.name} has no dataset of three axes; expected a volume (z, y, x).")
        return load(max(found, key=lambda d: (d.name == "/truth", d.size)))


READERS: dict[tuple[str, ...], Callable[[Path], np.ndarray]] = {
    TIFF_SUFFIXES: load_tiff,
    (".npy",): load_npy,
    (".npz",): _read_npz,
    nifti.SUFFIXES: nifti.load,
    MRC_SUFFIXES: mrc_volume.load,
    fits_stack.SUFFIXES: fits_stack.load_fits,
    HDF5_SUFFIXES: _read_hdf5,
}
