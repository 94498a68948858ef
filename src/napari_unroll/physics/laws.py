"""Numbers about operators, shipped to users: how well a pair is matched, how linear it is, how large.

All are divided by norms, with sums in float64, so that they compare across back ends and sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from napari_unroll.physics.autograd import Apply
from napari_unroll.physics.volume_physics import VolumePhysics

PART = 1 << 17
"""Numbers that are summed in double precision at once; their copies take 3 MiB."""


def random_like(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str, seed: int) -> torch.Tensor:
    """Standard Gaussian tensor, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype).to(device)


def inner(a: torch.Tensor, b: torch.Tensor) -> complex:
    """⟨a, b⟩ = Σ conj(a) b in double precision, part by part, so that no copy of either is made."""
    wide = torch.complex128 if (a.is_complex() or b.is_complex()) else torch.float64
    pairs = zip(a.reshape(-1).split(PART), b.reshape(-1).split(PART), strict=True)
    return complex(torch.stack([torch.vdot(x.to(wide), y.to(wide)) for x, y in pairs]).sum().item())


def norm(a: torch.Tensor) -> float:
    """‖a‖₂ in double precision, part by part as well."""
    numbers = torch.view_as_real(a.resolve_conj()) if a.is_complex() else a
    parts = numbers.reshape(-1).split(PART)
    return float(torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]).norm())


def adjoint_error(physics: VolumePhysics, seeds: Sequence[int] = (0, 1, 2)) -> float:
    """Largest |⟨A x, y⟩ − ⟨x, Aᴴ y⟩| / (‖A x‖ ‖y‖) over Gaussian pairs; a matched float32 pair stays below 1e-6."""
    worst = 0.0
    for seed in seeds:
        x = random_like(physics.x_shape, physics.dtype, physics.device, 2 * seed)
        y = random_like(physics.y_shape, physics.dtype, physics.device, 2 * seed + 1)
        Ax = physics.A(x)
        gap = abs(inner(Ax, y) - inner(x, physics.A_adjoint(y)))
        worst = max(worst, gap / max(norm(Ax) * norm(y), 1e-300))
    return worst


def linearity_error(physics: VolumePhysics, seed: int = 0) -> float:
    """‖A(a x + b z) − a A x − b A z‖ / ‖A(a x + b z)‖ for Gaussian x, z."""
    x = random_like(physics.x_shape, physics.dtype, physics.device, seed)
    z = random_like(physics.x_shape, physics.dtype, physics.device, seed + 1)
    whole = physics.A(1.5 * x - 0.7 * z)
    return norm(whole - 1.5 * physics.A(x) + 0.7 * physics.A(z)) / max(norm(whole), 1e-300)


def power_iteration(apply: Apply, x: torch.Tensor) -> Iterator[float]:
    """Estimates ‖Nᵏx‖ / ‖Nᵏ⁻¹x‖ of the largest |eigenvalue| of N, one per application; ends where N x is zero."""
    while (size := norm(x)) > 0:
        x = apply(x / size)
        yield norm(x)


def norm_estimates(physics: VolumePhysics, n_iter: int = 20, seed: int = 0) -> Iterator[float]:
    """Estimates of the largest eigenvalue of AᴴA, one per application.

    From a constant with a little seeded noise: the leading vectors of CT, MRI and blurs are smooth.
    """
    x = 1 + 0.1 * random_like(physics.x_shape, physics.dtype, physics.device, seed)
    return islice(power_iteration(physics.normal, x), n_iter)


def normal_norm(physics: VolumePhysics, n_iter: int = 20, seed: int = 0) -> float:
    """Largest eigenvalue of AᴴA: the last of its estimates."""
    return list(norm_estimates(physics, n_iter, seed))[-1]
