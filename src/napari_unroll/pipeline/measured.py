"""Measured scans that the suite ``real`` is made of. Files come from a folder of the user's; what it lacks is left out.

k-space that was measured in full is undersampled (see scan/retrospective.py), with the image of all samples as reference; that
shares its noise with what methods see, so they foretell the other samples too, whose noise is known. All other scans have no
truth: methods see a part of them and foretell the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.io.registry import read
from napari_unroll.methods.left_out import with_coil_maps
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.held_out import FIRST_SEED, Case, Task
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, VolumeGrid
from napari_unroll.scan.kspace_noise import noise_energy, sample_deviation
from napari_unroll.scan.left_out import Parts, leave_out
from napari_unroll.scan.retrospective import line_mask, undersampled
from napari_unroll.scan.sampling_masks import poisson_disc_mask
from napari_unroll.scan.scan import Provenance, Scan

SLICE = "pyqmri_cartesian/brain_13coil_fa4.npz"
CALIBRATION = 16
ACCELERATIONS = (5.0, 3.0, 10.0)
FAN, FAN_VIEWS = "htc2022_fan/htc2022_ta_full.mat", (30, 50, 100)
HALF_SIZE = 280
"""Voxels across for detectors of 560 pixels: one voxel for two of them, so that networks end within minutes."""
N_UNSEEN = 40
"""Views of a full orbit that are foretold where methods see few."""


@dataclass(frozen=True)
class WithoutTruth:
    """A file of a measured scan, the options to read it with, and how much of it is left out."""

    path: str
    task: Task
    data: str
    level: float
    options: dict[str, Any] = field(default_factory=dict)
    fraction: float = 0.05

    def parts(self, folder: Path) -> Parts:
        """What methods see, and what they foretell."""
        scan = read(folder / self.path, **self.options)
        return leave_out(with_coil_maps(scan, build_physics(scan, "cpu")), self.fraction, FIRST_SEED)


WITHOUT_TRUTH = (
    WithoutTruth("walnut_cwi_10view", "cone-beam", "walnut, 10 views", 9, {"bin": 8}, 0.1),
    WithoutTruth("dls24737_parallel3d/dls24737_transmission.npz", "parallel-beam", "DLS 24737", 86, {"bin": 2}),
    WithoutTruth("tooth_aps/tooth.h5", "parallel-beam", "tooth, two rows", 172, {"bin": 2}),
    WithoutTruth("sigpy_brain_ksp/cartesian_ksp.npy", "multi-coil", "brain slice of sigpy", 8.5),
    WithoutTruth("pyqmri_radial/VFA_radial_smalltest.h5", "multi-coil", "radial brain slice", 12),
)
"""Levels are the views that methods see, or the acceleration of what they see, of spokes by π/2 · edge / spokes."""


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
    found = [*_undersampled(folder), *_fans(folder), *_without_truth(folder)]
    if not found:
        raise ParameterError(f"{folder} holds none of the suite's measured scans; expected {SLICE} there, for example.")
    return found


def _undersampled(folder: Path) -> Iterator[Case]:
    path = folder / SLICE
    discs = [(r, "Poisson disc", partial(disc, r)) for r in ACCELERATIONS]
    for r, kind, mask in [*discs, (4.0, "lines", partial(lines, 4.0))] if path.is_file() else ():
        make = partial(of_slice, path, mask)
        yield _case("multi-coil", r, f"brain slice of pyqmri, {kind}", f"{path.stem}, {kind}", make, folder)


def _fans(folder: Path) -> Iterator[Case]:
    path = folder / FAN
    for n in FAN_VIEWS if path.is_file() else ():
        yield _case("cone-beam", n, "fan beam of HTC 2022, disc ta", path.stem, partial(few_views, path, n), folder)


def _without_truth(folder: Path) -> Iterator[Case]:
    for scan in WITHOUT_TRUTH:
        if (folder / scan.path).exists():
            yield _case(scan.task, scan.level, scan.data, scan.path, partial(scan.parts, folder), folder)


def _case(task: Task, level: float, data: str, name: str, make: Callable[[], Scan | Parts], folder: Path) -> Case:
    return Case(task, level, data, name, make, str(folder), "measured")


def few_views(path: Path, n: int) -> Parts:
    """``n`` views of a full orbit, evenly spread, and N_UNSEEN of the others, which methods foretell."""
    scan = read(path, max_size=HALF_SIZE)
    assert isinstance(scan.geometry, ConeBeam)
    total = scan.geometry.n_views
    seen = np.unique(np.linspace(0, total, n, endpoint=False).round().astype(int))
    others = np.setdiff1d(np.arange(total), seen)
    unseen = others[np.linspace(0, len(others) - 1, N_UNSEEN).round().astype(int)]
    return Parts(scan.subset(seen), scan.subset(unseen))


def disc(acceleration: float, shape: tuple[int, int]) -> np.ndarray:
    """A Poisson-disc mask (y, x)."""
    return poisson_disc_mask(shape, acceleration, CALIBRATION, FIRST_SEED)


def lines(acceleration: float, shape: tuple[int, int]) -> np.ndarray:
    """A mask (y, x) of whole lines along x: all of the middle, and others that grow rarer outwards."""
    return line_mask(shape, acceleration, CALIBRATION, FIRST_SEED)


def of_slice(path: Path, mask: Callable[[tuple[int, int]], np.ndarray]) -> Parts:
    """The scan of an ``.npz`` with full ``kspace`` (coil, 1, y, x) and ``csm``, seen through ``mask``, and all that it hides."""
    with np.load(path) as file:
        kspace, csm = file["kspace"].astype(np.complex64), file["csm"].astype(np.complex64)
    shape = kspace.shape[1:]
    whole = Scan(
        measurements=kspace,
        geometry=CartesianSampling(mask=np.ones(shape, bool), n_coils=len(kspace)),
        grid=VolumeGrid(shape=shape),
        csm=csm,
        name=path.stem,
        provenance=Provenance(source=str(path), format="retrospective undersampling"),
    )
    seen = mask((shape[1], shape[2]))
    hidden = whole.masked(~np.broadcast_to(seen, shape))
    return Parts(undersampled(whole, seen), hidden, _share_of_noise(whole, hidden))


def _share_of_noise(whole: Scan, part: Scan) -> float | None:
    """The part of ‖y‖² that is noise; None where the whole scan only tells a limit."""
    found = sample_deviation(whole)
    if found is None or found.is_limit:
        return None
    return noise_energy(part, found.value) / float(np.sum(np.abs(part.measurements) ** 2, dtype=np.float64))
