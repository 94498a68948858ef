"""What every method of total variation minimises: ‖A x − y‖² / (2 μ) + λ s TV(x), x ≥ 0 for real x on request.

μ and s are those of ``strength``, so λ has no unit. How it is minimised is the methods' matter.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from pydantic import Field

from napari_unroll.events import Event
from napari_unroll.methods.classical.iterations import IterativeParams
from napari_unroll.methods.classical.strength import Strength, mean_eigenvalue, volume_scale
from napari_unroll.methods.classical.total_variation import TotalVariation
from napari_unroll.methods.problem import Problem
from napari_unroll.physics.laws import norm
from napari_unroll.scan.kspace_noise import blurred_deviation, noise_of_images
from napari_unroll.scan.scan import Scan

STRENGTHS_OF_NOISE = (1e-3, 0.05)
"""Limits of the strength for ``auto`` where the noise of k-space is known."""
ACCELERATION_OF_NOISE = 10.0
"""Where the strength is that noise, relative to the brightest voxel. At lower accelerations R it is √(R / 10) of it, as the noise
of Aᴴy / μ is √R of that of y (docs/decisions/regularisation_strength.md)."""
DEFAULT_STRENGTH = {"ct": 0.1, "mri": 0.013, "image": 0.05}
"""λ for ``auto`` where the noise is not known, and of the starts of networks: the best of a grid in steps of about two on generated
scans of the training seeds (CT: walnut and foam, 64³, 30, 50 and 100 views, data simulated on a grid twice as fine; MRI: brain,
R = 5 and 10). The CT optimum was 0.06 to 0.12 at every number of views, because λ is measured against the mean eigenvalue of AᴴA;
twice or half of it costs 0.3 to 1 dB. Images (96², training seeds 0 and 1): for the 9 × 9 blur 0.02 and 0.05 were best, 0.1 costs
0.4 to 0.6 dB; 3-fold super-resolution changes by less than 0.1 dB from 0.02 to 0.1."""


class TVObjectiveParams(IterativeParams):
    """Choices of total variation, however it is minimised."""

    strength: Strength = Field(
        default="auto",
        description="λ, the weight of total variation against the data; no unit. More is smoother; auto: by modality, for "
        "MRI by the noise of its samples.",
    )
    positivity: bool = Field(
        default=True, description="Keep real values at or above zero; has no effect on complex images."
    )


@dataclass(frozen=True)
class TVObjective:
    """‖A x − y‖² / (2 ``mean``) + ``weight`` TV(x): ``mean`` is μ, ``weight`` λ s, ``start`` the quick volume."""

    problem: Problem
    tv: TotalVariation
    mean: float
    weight: float
    start: torch.Tensor

    def value(self, x: torch.Tensor) -> float:
        """The objective at x (z, y, x)."""
        misfit = norm(self.problem.physics.A(x[None, None]) - self.problem.y) ** 2
        return misfit / (2 * self.mean) + self.weight * self.tv.value(x)


def auto_strength(scan: Scan) -> float:
    """λ of a scan: what suits its noise where that can be told, else what suits its modality."""
    noise, (least, most) = blurred_deviation(scan), STRENGTHS_OF_NOISE
    if noise is None:
        return DEFAULT_STRENGTH[scan.modality]
    share = min(1.0, noise_of_images(scan) / ACCELERATION_OF_NOISE**0.5)
    return min(max(share * noise, least), most)


def objective(problem: Problem, params: TVObjectiveParams) -> Generator[Event, None, TVObjective]:
    """The objective of a problem; starts from the quick reconstruction."""
    quick = yield from problem.find_quick()
    positive = params.positivity and not quick.is_complex()
    strength = auto_strength(problem.scan) if params.strength == "auto" else params.strength
    return TVObjective(
        problem=problem,
        tv=TotalVariation(problem.scan.grid.spacing_mm, positive),
        mean=mean_eigenvalue(problem.physics),
        weight=strength * volume_scale(quick),
        start=quick.clamp(min=0) if positive else quick,
    )
