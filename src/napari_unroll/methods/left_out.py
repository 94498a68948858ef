"""How well a volume foretells measurements that its run did not see: a figure of merit that needs no truth.

The error of a volume x is ‖A x − y‖² / ‖y‖² over what was left out, with the noise of it as a floor that no volume gets under.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from napari_unroll.methods.problem import Problem, measured
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.left_out import FRACTION, leave_out
from napari_unroll.scan.scan import Scan


@dataclass(frozen=True)
class LeftOut:
    """Measurements that were left out, ``y`` with a batch axis, and the ``physics`` that foretells them.

    ``sampled`` (z, y, x) is where Cartesian k-space holds them, None where all of ``y`` does; ``noise`` is the part of ‖y‖² that
    is noise, if known.
    """

    physics: VolumePhysics
    y: torch.Tensor
    sampled: torch.Tensor | None = None
    noise: float | None = None

    def samples(self, y: torch.Tensor) -> torch.Tensor:
        """Of measurements those that were left out: all, or of Cartesian k-space (1, coil, sample)."""
        return y if self.sampled is None else y[..., self.sampled]

    @torch.no_grad()
    def error(self, x: torch.Tensor) -> float:
        """‖A x − y‖² / ‖y‖² of a volume (1, 1, z, y, x)."""
        wrong, size = self.energies(x)
        return float(wrong.sum() / size.sum().clamp(min=1e-300))

    @torch.no_grad()
    def energies(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """‖A x − y‖² and ‖y‖² of every view or coil, float64."""
        return energies(self.physics.A(x) - self.y), energies(self.y)


def energies(y: torch.Tensor) -> torch.Tensor:
    """‖y‖² of every coil of k-space (1, coil, …), or of every view of projections (1, 1, view, row, column), float64."""
    parts = y[0] if y.is_complex() else y[0, 0]
    return parts.abs().double().square().flatten(1).sum(1)


def with_coil_maps(scan: Scan, physics: VolumePhysics) -> Scan:
    """The scan with the coil maps of its physics, so that both of its parts have the same."""
    return scan if physics.csm is None else replace(scan, csm=physics.csm.cpu().numpy())


def split(problem: Problem, fraction: float = FRACTION, seed: int = 0) -> tuple[Problem, LeftOut]:
    """The problem without part of its measurements, and that part.

    The fitted normal operator stays that of all measurements, and so does the estimate that a stopped run returns; the
    state is a new one. Raises ScanError where nothing can be spared.
    """
    parts = leave_out(with_coil_maps(problem.scan, problem.physics), fraction, seed)
    device = str(problem.device)
    kept = replace(
        problem,
        scan=parts.kept,
        physics=build_physics(parts.kept, device),
        y=measured(parts.kept, device),
        state={},
    )
    return kept, of_scan(parts.left_out, device)


def of_scan(scan: Scan, device: str) -> LeftOut:
    """The measurements of a scan that was left out of another."""
    geometry = scan.geometry
    sampled = torch.tensor(geometry.mask, device=device) if isinstance(geometry, CartesianSampling) else None
    return LeftOut(build_physics(scan, device), measured(scan, device), sampled)
