"""Readouts, as scanners write them, one by one: which of them make an image, and the lattice that they are sorted onto.

Shared by ISMRMRD and Siemens raw data; knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError, ScanError
from napari_unroll.io.guards import check_memory
from napari_unroll.io.mri_scan import SliceOptions
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.preprocess_mri import prewhitening

MOST_SPARSE = 1000
"""Points of a lattice for one sample, beyond which a file is damaged."""


class ReadoutOptions(SliceOptions):
    """Which of the images in a file of readouts."""

    contrast: int | None = Field(default=None, ge=0, le=MOST, description="Which contrast (echo), counted from 0.")
    repetition: int | None = Field(default=None, ge=0, le=MOST, description="Which repetition, counted from 0.")
    phase: int | None = Field(default=None, ge=0, le=MOST, description="Which (cardiac) phase, counted from 0.")
    set: int | None = Field(default=None, ge=0, le=MOST, description="Which set, counted from 0.")


def chosen(counters: Mapping[str, np.ndarray], options: ReadoutOptions, name: str) -> np.ndarray:
    """Which readouts belong to the image that the options name; ``counters`` (readout,) by the options' names.

    Raises MissingInformation where a counter takes several values and its option is empty, and ParameterError where
    nothing has the value that it asks for.
    """
    keep: np.ndarray = np.ones(len(next(iter(counters.values()))), bool)
    for what, values in counters.items():
        found, wanted = np.unique(values[keep]), getattr(options, what)
        if wanted is None and len(found) > 1:
            raise MissingInformation(
                f"{name} holds {len(found)} values of {what}, {found[0]:g} to {found[-1]:g}, each an image of its own; choose "
                f"one by option {what!r}.",
                what,
            )
        if wanted is not None and wanted not in found:
            raise ParameterError(
                f"{name} has no {what} {wanted}; it holds {found[0]:g} to {found[-1]:g}. Set option {what!r}."
            )
        keep &= values == (found[0] if wanted is None else wanted)
    return keep


def slice_places(numbers: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, float]:
    """Place of the slice of every readout, (readout,), and the distance of neighbouring slices in mm, 0 where unknown.

    ``numbers`` (readout,) are the scanner's slice numbers; ``along`` (readout,) the slices' positions along their normal,
    in mm, by which they are ordered where they differ.
    """
    slices, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    where = np.asarray(along, float)[first]
    if len(slices) < 2 or len(np.unique(where.round(3))) < len(slices) or not np.isfinite(where).all():
        return inverse, 0.0
    order = np.argsort(where, kind="stable")
    place = np.empty(len(slices), int)
    place[order] = np.arange(len(slices))
    return place[inverse], float(np.median(np.diff(where[order])))


def whitening(noise: list[np.ndarray], notes: list[str]) -> np.ndarray | None:
    """The matrix that whitens the coils by readouts (coil, sample) of noise; None without any, or where they say too little."""
    if not noise:
        return None
    try:
        matrix = prewhitening(np.concatenate(noise, axis=1))
    except ScanError as error:
        notes.append(f"The coils are not whitened. {error}")
        return None
    notes.append("The coils are whitened by the noise scan of the file.")
    return matrix


def white(samples: np.ndarray, whiten: np.ndarray | None) -> np.ndarray:
    """A readout (coil, sample) of whitened coils, or as it is."""
    return samples if whiten is None else whiten @ samples


class Lattice:
    """The mean of readouts (coil, sample) on the points (slice, coil, z, y, x) where they were taken."""

    def __init__(self, n_slices: int, n_coils: int, shape: tuple[int, int, int], n_samples: int, name: str) -> None:
        points = n_slices * shape[0] * shape[1] * shape[2]
        if points > MOST_SPARSE * n_samples:
            raise FileFormatError(
                f"{name} declares {n_slices} x {shape} points of k-space for {n_samples} samples: it is damaged or incomplete."
            )
        check_memory(points * (16 * n_coils + 5), name)
        self.name = name
        self._sums = np.zeros((n_slices, n_coils, *shape), np.complex64)
        self._counts = np.zeros((n_slices, *shape), np.int32)

    def put(self, place: tuple[int, int, int], first: int, samples: np.ndarray) -> None:
        """Add a readout (coil, sample) at (slice, z, y), its first sample in column ``first``."""
        (s, z, y), (n_slices, *shape) = place, self._counts.shape
        stop = first + samples.shape[1]
        if not (0 <= s < n_slices and 0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= first <= stop <= shape[2]):
            raise FileFormatError(
                f"{self.name} has a readout at z {z}, y {y}, x {first} to {stop - 1}, outside the encoded matrix {tuple(shape)}; "
                "its header is wrong."
            )
        self._sums[s, :, z, y, first:stop] += samples
        self._counts[s, z, y, first:stop] += 1

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """k-space (slice, coil, z, y, x), zero where no readout went, and the mask (slice, z, y, x)."""
        self._sums /= np.maximum(self._counts, 1)[:, None]
        return self._sums, self._counts > 0
