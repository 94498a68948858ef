"""fastMRI's HDF5 files: k-space (slice, coil, y, x) of one scan, its mask where it was undersampled, an ISMRMRD header.

Zbontar et al., fastMRI: an open dataset and benchmarks, arXiv:1811.08839. The readout is y, twice oversampled; x is
phase-encoded. The published root-sum-of-squares images are cropped magnitudes and no truth of what is reconstructed here.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import check_heaps, checked, dataset, load, open_hdf5
from napari_unroll.io.mrd_header import LARGEST_HEADER, Encoding, parse_header
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
    with open_hdf5(path) as file:
        check_heaps(file)
        stored = file["kspace"]
        if stored.ndim not in (3, 4):
            raise FileFormatError(f"k-space of {path.name} should be (slice, coil, y, x); its shape is {stored.shape}.")
        n_slices = checked(stored).shape[0]
        index = choice("slice", options.slice, n_slices)
        rows = slice(0, n_slices) if index is None else slice(index, index + 1)
        check_memory(3 * stored.nbytes // n_slices * (rows.stop - rows.start), path.name)
        kspace = stored[rows].astype(np.complex64, copy=False)
        kspace = kspace[:, None] if stored.ndim == 3 else kspace
        columns = dataset(file, "mask")
        columns = None if columns is None else load(columns, 1)
        encoding = _encoding(file, path.name)
    mask = _mask(kspace, columns, path.name)
    kspace, mask = kspace[:, :, None], mask[:, None]
    notes.append(f"{'All' if index is None else 'One'} of {n_slices} slices, {kspace.shape[1]} coils.")
    encoded, recon = encoding.encoded, encoding.recon
    voxel = encoded.voxel_mm
    if encoded.matrix[2] == kspace.shape[-2]:
        kspace, mask = without_oversampling(kspace, mask, recon.matrix[2], -2, notes)
    volume, sampled = one_volume(kspace, mask, notes)
    notes.append(f"Sampled: {float(sampled.mean()):.4g} of the grid of {sampled.shape}.")
    spacing = lengths_or_none(voxel[0], voxel[2], voxel[1])
    return cartesian_scan(path.stem, volume, sampled, spacing, None, options, notes, readout=1)


def _encoding(file: h5py.File, name: str) -> Encoding:
    header = file["ismrmrd_header"]
    if header.size != 1 or header.nbytes > LARGEST_HEADER:
        raise FileFormatError(f"The header of {name} should be one text; it is damaged.")
    text = header[()]
    return parse_header(text if isinstance(text, (bytes, str)) else text.reshape(-1)[0], name)[0]


def _mask(kspace: np.ndarray, columns: np.ndarray | None, name: str) -> np.ndarray:
    """The mask (slice, y, x) of (slice, coil, y, x): whole columns, from the file's mask or from what is not zero."""
    measured = (kspace != 0).any(axis=(1, 2))
    if columns is not None:
        if columns.shape != measured.shape[1:]:
            raise FileFormatError(f"The mask of {name} has {len(columns)} columns; k-space has {measured.shape[1]}.")
        measured = measured & (columns != 0)
    return np.repeat(measured[:, None], kspace.shape[2], axis=1)


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
