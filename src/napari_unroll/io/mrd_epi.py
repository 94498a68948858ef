"""Echo-planar readouts of ISMRMRD files: every second line is taken backwards, and lags by a phase that is linear along x.

Lines without phase encoding (flag 24) tell that phase, slice by slice: a shift of k-space and a constant. Samples on the ramps of
the gradient are regridded where the file says where they were taken (H. Bruder et al., Magn. Reson. Med. 23 (1992) 311,
doi:10.1002/mrm.1910230211). Knows rows, and no images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.fft

from napari_unroll.errors import FileFormatError
from napari_unroll.io.mrd_header import Encoding
from napari_unroll.io.mrd_rows import NOISE, PHASE_CORRECTION, REVERSED, Rows
from napari_unroll.io.mri_scan import centred

LEAST = 1e-3
"""Of the largest singular value: what regridding divides by at least."""


@dataclass
class EchoPlanar:
    """Whole lines of ``columns`` samples from readouts; ``phases`` by slice: constant and slope per voxel, radians."""

    rows: Rows
    columns: int
    phases: dict[int, tuple[float, float]] = field(default_factory=dict)
    _regrid: dict[bytes, np.ndarray] = field(default_factory=dict)

    def line(self, row: int, samples: np.ndarray, trajectory: np.ndarray) -> np.ndarray:
        """k-space (coil, column) of a readout (coil, sample), whose lag is taken back."""
        image = self.image(row, samples, trajectory)
        if self._is_reversed(row):
            constant, slope = self.phases.get(int(self.rows.heads["idx"]["slice"][row]), (0.0, 0.0))
            image = image * np.exp(1j * (constant + slope * self._x))
        return centred(scipy.fft.fft, image, -1)

    def image(self, row: int, samples: np.ndarray, trajectory: np.ndarray) -> np.ndarray:
        """The line (coil, x), turned or regridded."""
        if trajectory.shape[1]:
            return samples @ self._matrix(np.asarray(trajectory[:, 0], float)).T
        if samples.shape[1] != self.columns:
            raise FileFormatError(
                f"The echo-planar readouts of {self.rows.name} have {samples.shape[1]} samples for {self.columns} columns and no "
                "trajectory: they need regridding. Write their trajectory into the file, or regrid them."
            )
        return centred(scipy.fft.ifft, samples[:, ::-1] if self._is_reversed(row) else samples, -1)

    @property
    def _x(self) -> np.ndarray:
        return np.arange(self.columns) - self.columns // 2

    def _is_reversed(self, row: int) -> bool:
        return bool(int(self.rows.heads["flags"][row]) >> (REVERSED - 1) & 1)

    def _matrix(self, k: np.ndarray) -> np.ndarray:
        """The least-squares inverse (x, sample) of a line's samples at ``k``, in cycles per voxel or per field of view."""
        k = k if np.abs(k).max() <= 0.5 + 1e-3 else k / self.columns
        if k.tobytes() not in self._regrid:
            forward = np.exp(-2j * np.pi * k[:, None] * self._x) / np.sqrt(self.columns)
            self._regrid[k.tobytes()] = np.linalg.pinv(forward, rcond=LEAST)
        return self._regrid[k.tobytes()]


def echo_planar(rows: Rows, wanted: np.ndarray, encoding: Encoding, notes: list[str]) -> EchoPlanar:
    """How the readouts ``wanted`` become lines, with the phases of their slices.

    Raises FileFormatError where they were sampled on ramps and do not say where.
    """
    heads = rows.heads
    if encoding.on_ramps and not heads["trajectory_dimensions"][wanted].all():
        raise FileFormatError(
            f"The echo-planar readouts of {rows.name} were sampled on the ramps of the gradient and have no trajectory: they need "
            "regridding. Write their trajectory into the file, or regrid them."
        )
    planar = EchoPlanar(rows, encoding.encoded.matrix[2])
    n_coils = heads["active_channels"][wanted[0]]
    correcting = rows.flagged(PHASE_CORRECTION) & ~rows.flagged(NOISE) & (heads["active_channels"] == n_coils)
    for number in np.unique(heads["idx"]["slice"][wanted]).tolist():
        lines = np.flatnonzero(correcting & (heads["idx"]["slice"] == number))
        reverse = rows.flagged(REVERSED)[lines]
        if reverse.any() and not reverse.all():
            planar.phases[number] = _lag(planar, rows, lines, reverse)
    if planar.phases:
        steepest = max((slope for _, slope in planar.phases.values()), key=abs)
        notes.append(
            f"Lines taken backwards lag by up to {np.rad2deg(steepest):.3g}° per voxel; {int(correcting.sum())} lines that tell it "
            "were used."
        )
    elif rows.flagged(REVERSED)[wanted].any():
        notes.append("No lines tell by which phase those taken backwards lag: the image may have ghosts.")
    return planar


def _lag(planar: EchoPlanar, rows: Rows, lines: np.ndarray, reverse: np.ndarray) -> tuple[float, float]:
    """Constant and slope of the phase by which the mean backward line lags behind the mean forward one."""
    images = np.stack([planar.image(row, samples, traj) for row, samples, traj in rows.samples(lines)])
    apart = (images[~reverse].mean(axis=0) * images[reverse].mean(axis=0).conj()).sum(axis=0)
    slope = float(np.angle((apart[1:] * apart[:-1].conj()).sum()))
    x = np.arange(len(apart)) - len(apart) // 2
    return float(np.angle((apart * np.exp(-1j * slope * x)).sum())), slope
