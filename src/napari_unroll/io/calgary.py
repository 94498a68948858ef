"""Calgary-Campinas raw data in HDF5: hybrid k-space (x, ky, kz, 2 · coil), real and imaginary parts interleaved.

Beauferris et al., doi:10.3389/fnins.2022.919186, and the loaders of its challenge. The readout x is already an image axis;
ky and kz have k = 0 in the middle, but images come by an inverse FFT that is not centred. The last kz, beyond 85 %, were
filled with zeros by the scanner and are not sampled.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.fft
from pydantic import Field

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.interrupt import stage
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import checked, dataset, open_hdf5
from napari_unroll.io.mri_scan import CartesianOptions, cartesian_scan, centred
from napari_unroll.io.reader import Reader
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan

SAMPLED_KZ = 0.85


class CalgaryOptions(CartesianOptions):
    """Which part of the head, along the readout."""

    first: int = Field(default=0, ge=0, le=MOST, description="First plane across the readout, counted from 0.")
    planes: int | None = Field(default=None, ge=1, le=MOST, description="So many planes from there; empty: all.")


def sniff(path: Path) -> bool:
    """Whether there is a real array kspace with an even number of channels, last of four axes."""
    with open_hdf5(path) as file:
        kspace = dataset(file, "kspace")
        return kspace is not None and kspace.dtype.kind == "f" and kspace.ndim == 4 and kspace.shape[3] % 2 == 0


def read(path: Path, options: CalgaryOptions) -> Scan:
    """The volume, or a slab of it across the readout; axes z, y, x of the scan are the readout, ky and kz."""
    with open_hdf5(path) as file:
        stored = checked(file["kspace"], 4)
        n, n_y, n_z, channels = stored.shape
        last = n if options.planes is None else options.first + options.planes
        if channels % 2 or channels == 0:
            raise FileFormatError(
                f"k-space of {path.name} should end in pairs of real numbers; its shape is {stored.shape}."
            )
        if not options.first < last <= n:
            raise ParameterError(f"{path.name} has {n} planes across the readout; set options 'first' and 'planes'.")
        check_memory(4 * stored.nbytes // n * (last - options.first), path.name)
        kspace = np.empty((channels // 2, last - options.first, n_y, n_z), np.complex64)
        ramp = _shift(n_y)[:, None] * _shift(n_z)
        with stage(len(kspace[0]), "reading k-space") as done:
            for k in range(last - options.first):
                done(k)
                plane = np.ascontiguousarray(stored[options.first + k], np.float32).view(np.complex64)
                kspace[:, k] = np.moveaxis(plane * ramp[..., None], -1, 0)
    mask = _mask(kspace)
    notes = [
        f"{last - options.first} of {n} planes across the readout, {channels // 2} coils; axes z, y, x are the readout, ky and kz.",
        f"Sampled: {float(mask.mean()):.4g} of ky and kz.",
    ]
    for k, coil in enumerate(kspace):
        kspace[k] = centred(scipy.fft.fft, coil, 0)
    return cartesian_scan(
        path.stem, kspace, np.broadcast_to(mask, kspace.shape[1:]), None, None, options, notes, readout=0
    )


def _shift(n: int) -> np.ndarray:
    """What makes the plain inverse FFT of n samples with k = 0 at n // 2 a centred one: a ramp of phase, (n,)."""
    return np.exp(2j * np.pi * (np.arange(n) - n // 2) * (n // 2) / n).astype(np.complex64)


def _mask(kspace: np.ndarray) -> np.ndarray:
    """Which ky, kz were sampled, (ky, kz): those that are not zero and not beyond what the scanner measured."""
    n_y, n_z = kspace.shape[2:]
    sampled = np.zeros((n_y, n_z), bool)
    for coil in kspace:
        sampled |= (coil != 0).any(axis=0)
    sampled[:, math.ceil(SAMPLED_KZ * n_z) :] = False
    return sampled


READER = Reader(
    name="calgary-campinas",
    title="Calgary-Campinas HDF5",
    expects="real kspace (x, ky, kz, 2 coil)",
    container="hdf5",
    extensions=(".h5",),
    sniff=sniff,
    read=read,
    options=CalgaryOptions,
    holds="options `first` and `planes` (a slab across the readout)",
)
