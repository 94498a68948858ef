"""Measured scans that the suite ``real`` is made of: retrospective undersampling of k-space that was measured in full.

The reference is the coil combination Σ S̄ x / Σ |S|² of the images of all samples, with the noise that they have. Files come from a
folder of the user's; what it lacks is left out of the suite.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.pipeline.held_out import FIRST_SEED, Case
from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.preprocess_mri import centred_ifft
from napari_unroll.scan.sampling_masks import poisson_disc_mask
from napari_unroll.scan.scan import Provenance, Scan

SLICE = "pyqmri_cartesian/brain_13coil_fa4.npz"
CALIBRATION = 16
ACCELERATIONS = (5.0, 3.0, 10.0)


def data_folder() -> Path:
    """The folder that the variable NAPARI_UNROLL_DATA names. Raises ParameterError where there is none."""
    folder = Path(os.environ.get("NAPARI_UNROLL_DATA", "")).expanduser()
    if not os.environ.get("NAPARI_UNROLL_DATA") or not folder.is_dir():
        raise ParameterError(
            "The suite real needs measured scans; set NAPARI_UNROLL_DATA to the folder that holds them."
        )
    return folder


def measured_cases(folder: Path) -> list[Case]:
    """The suite's scans in ``folder``. Raises ParameterError where it has none of them."""
    path = folder / SLICE
    if not path.is_file():
        raise ParameterError(f"{folder} holds none of the suite's measured scans; expected {SLICE} there.")
    discs = [(r, "Poisson disc", partial(disc, r)) for r in ACCELERATIONS]
    kinds = [*discs, (4.0, "lines", partial(lines, 4.0))]
    return [
        Case("multi-coil", r, f"measured brain slice, {kind}", f"{path.stem}, {kind}", partial(of_slice, path, mask),
             str(folder))
        for r, kind, mask in kinds
    ]  # fmt: skip


def disc(acceleration: float, shape: tuple[int, int]) -> np.ndarray:
    """A Poisson-disc mask (y, x)."""
    return poisson_disc_mask(shape, acceleration, CALIBRATION, FIRST_SEED)


def lines(acceleration: float, shape: tuple[int, int]) -> np.ndarray:
    """A mask (y, x) of whole lines along x: all of the middle, and others that grow rarer outwards."""
    n, rng = shape[0], np.random.default_rng(FIRST_SEED)
    distance = np.abs(np.arange(n) - n // 2)
    chosen = distance <= CALIBRATION // 2
    likely = np.where(chosen, 0, (1 - distance / n) ** 4)
    more = max(0, round(n / acceleration) - int(chosen.sum()))
    chosen[rng.choice(n, more, replace=False, p=likely / likely.sum())] = True
    return np.broadcast_to(chosen[:, None], shape)


def of_slice(path: Path, mask: Callable[[tuple[int, int]], np.ndarray]) -> Scan:
    """The scan of an ``.npz`` with full ``kspace`` (coil, 1, y, x) and ``csm``, seen through ``mask``."""
    with np.load(path) as file:
        kspace, csm = file["kspace"].astype(np.complex64), file["csm"].astype(np.complex64)
    seen = np.broadcast_to(mask((kspace.shape[2], kspace.shape[3])), kspace.shape[1:])
    return Scan(
        measurements=np.where(seen, kspace, 0),
        geometry=CartesianSampling(mask=seen, n_coils=len(kspace)),
        grid=VolumeGrid(shape=(kspace.shape[1], kspace.shape[2], kspace.shape[3])),
        csm=csm,
        truth=combined(kspace, csm),
        name=path.stem,
        provenance=Provenance(source=str(path), format="retrospective undersampling"),
    )


def combined(kspace: np.ndarray, csm: np.ndarray) -> np.ndarray:
    """Σ S̄ x / Σ |S|² of the coil images x of full k-space; zero where no coil sees anything."""
    seen = (np.abs(csm) ** 2).sum(0)
    image = (csm.conj() * centred_ifft(kspace)).sum(0) / np.maximum(seen, 1e-12)
    return np.where(seen > 1e-6 * seen.max(), image, 0).astype(np.complex64)
