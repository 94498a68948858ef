"""fastMRI's HDF5 files: k-space (slice, coil, y, x) of one scan, its mask where it was undersampled, an ISMRMRD header.

Zbontar et al., fastMRI: an open dataset and benchmarks, arXiv:1811.08839. The readout is y, twice oversampled; x is
phase-encoded. The published root-sum-of-squares images are cropped magnitudes and no truth of what is reconstructed here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import stage
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import checked, dataset, load, open_hdf5, text_of
from napari_unroll.io.mrd_header import LARGEST_HEADER, parse_header
from napari_unroll.io.mri_scan import (
    SliceOptions,
    cartesian_scan,
    choice,
    lengths_or_none,
    one_volume,
    without_oversampling,
)  # fmt: skip
from napari_unroll.io.reader import Reader
from napari_unroll.scan.scan import Scan


def sniff(path: Path) -> bool:
    """Whether there is complex k-space beside an ISMRMRD header."""
    with open_hdf5(path) as file:
        kspace = dataset(file, "kspace")
        return dataset(file, "ismrmrd_header") is not None and kspace is not None and kspace.dtype.kind == "c"


def read(path: Path, options: SliceOptions) -> Scan:
    """One slice, or the volume of all; single-coil files (slice, y, x) have one coil."""
    notes: list[str] = []
    with open_hdf5(path, texts=True) as file:
        stored = file["kspace"]
        if stored.ndim not in (3, 4):
            raise FileFormatError(f"k-space of {path.name} should be (slice, coil, y, x); its shape is {stored.shape}.")
        n_slices = checked(stored).shape[0]
        index = choice("slice", options.slice, n_slices)
        chosen = range(n_slices) if index is None else [index]
        check_memory(4 * len(chosen) * stored.nbytes // n_slices, path.name)
        n_coils = stored.shape[1] if stored.ndim == 4 else 1
        kspace = np.empty((len(chosen), n_coils, 1, *stored.shape[-2:]), np.complex64)
        measured = np.empty((len(chosen), stored.shape[-1]), bool)
        with stage(len(chosen), "reading k-space") as done:
            for k, number in enumerate(chosen):
                done(k)
                kspace[k, :, 0] = stored[number]
                measured[k] = (kspace[k] != 0).any(axis=(0, 1, 2))
        columns = dataset(file, "mask")
        columns = None if columns is None else load(columns, 1)
        encoding = parse_header(text_of(file["ismrmrd_header"], LARGEST_HEADER), path.name)[0]
    mask = _mask(measured, columns, kspace.shape[-2], path.name)
    notes.append(f"{'All' if index is None else 'One'} of {n_slices} slices, {kspace.shape[1]} coils.")
    if encoding.encoded.matrix[2] == kspace.shape[-2]:
        kspace, mask = without_oversampling(kspace, mask, encoding.columns, -2, notes)
    volume, sampled = one_volume(kspace, mask, notes)
    notes.append(f"Sampled: {float(sampled.mean()):.4g} of the grid of {sampled.shape}.")
    voxel = encoding.encoded.voxel_mm
    spacing = lengths_or_none(voxel[0], voxel[2], voxel[1])
    return cartesian_scan(path.stem, volume, sampled, spacing, None, options, notes, readout=1)


def _mask(measured: np.ndarray, columns: np.ndarray | None, n_y: int, name: str) -> np.ndarray:
    """The mask (slice, z, y, x) of the ``measured`` columns (slice, x), those that the file's mask has as well."""
    if columns is not None:
        if columns.shape != measured.shape[1:]:
            raise FileFormatError(f"The mask of {name} has {len(columns)} columns; k-space has {measured.shape[1]}.")
        measured = measured & (columns != 0)
    return np.repeat(measured[:, None, None], n_y, axis=2)


READER = Reader(
    name="fastmri",
    title="fastMRI HDF5",
    expects="complex kspace beside ismrmrd_header",
    container="hdf5",
    extensions=(".h5",),
    sniff=sniff,
    read=read,
    options=SliceOptions,
    holds="k-space (slice, coil, y, x) or (slice, y, x), `mask`; option `slice`",
)
