"""The closed form of operators that commute with some circular shifts: deblurring, super-resolution.

Where AᴴA commutes with shifts by f voxels, its column at a voxel depends on the place only through that place modulo f. So
AᴴA = Σ_p C_p E_p over the f (in three axes f_z f_y f_x) phases p: E_p keeps every f-th voxel from p on, and C_p is the
circular convolution with the column at p. A blur has one phase and is one convolution; three-fold super-resolution of
images has nine. Sees a physics only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from napari_unroll.errors import ParameterError
from napari_unroll.interrupt import stage
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.probes import CountedNormal
from napari_unroll.physics.convolution import AXES

NEGLIGIBLE = 1e-6
"""Part of a kernel's largest weight below which its weights are rounding."""


def phase_factors(normal: CountedNormal) -> NormalFactors:
    """Σ_p C_p E_p, exact, from one application of AᴴA per phase. Raises ParameterError for a physics without a period."""
    period = normal.physics.period
    if period is None:
        kind = type(normal.physics).__name__
        raise ParameterError(f"The form phases is for deblurring and super-resolution; {kind} is neither.")
    places = list(itertools.product(*map(range, period)))
    kernels = []
    with stage(len(places)) as done:
        for i, place in enumerate(places):
            done(i)
            kernels.append(_column(normal, place))
    is_blur = len(places) == 1
    return NormalFactors(
        kernel=_trimmed(torch.stack(kernels)),
        left=None,
        right=None if is_blur else torch.stack([_every(normal, place, period) for place in places]),
        shape=normal.shape,
        circular=(True, True, True),
        form="phases",
        pairs=None if is_blur else tuple((0, p, p) for p in range(len(places))),
        positive_kernel=is_blur,
        exact=True,
    )


def _column(normal: CountedNormal, place: Sequence[int]) -> torch.Tensor:
    """AᴴA of an impulse at ``place``, by lag (z, y, x)."""
    impulse = normal.zeros()
    z, y, x = place
    impulse[..., z, y, x] = 1
    return normal(impulse)[0, 0].roll([-p for p in place], AXES)


def _every(normal: CountedNormal, place: Sequence[int], period: Sequence[int]) -> torch.Tensor:
    """One at ``place`` and every ``period`` voxels from there, zero elsewhere (z, y, x)."""
    keep = torch.zeros(normal.shape, dtype=normal.dtype, device=normal.device)
    keep[tuple(slice(p, None, f) for p, f in zip(place, period, strict=True))] = 1
    return keep


def _trimmed(kernel: torch.Tensor) -> torch.Tensor:
    """The kernels (k, z, y, x) with one lag along axes on which nothing is blurred, which then need no transform."""
    largest = kernel.abs().max()
    for axis in AXES:
        others = kernel.narrow(axis, 1, kernel.shape[axis] - 1)
        if others.numel() == 0 or bool(others.abs().max() <= NEGLIGIBLE * largest):
            kernel = kernel.narrow(axis, 0, 1)
    return kernel.contiguous()
