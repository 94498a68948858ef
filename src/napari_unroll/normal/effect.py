"""What Ñ in place of N does to a reconstruction: the third norm in which a fit is judged.

An operator may err where a reconstruction never looks, so images are solved for twice, with N and with Ñ, from the same
data. Sees operators and volumes; makes no events.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_unroll.events import Box
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.probes import CountedNormal, ellipsoids, random_box, relative_error
from napari_unroll.physics.autograd import Apply
from napari_unroll.physics.convolution import Shape
from napari_unroll.physics.solvers import Solution, conjugate_gradients
from napari_unroll.physics.volume_physics import VolumePhysics

SHIFT = 1e-2
"""μ / ‖N‖ of the equations that are solved; it keeps an indefinite Ñ from being asked for the impossible."""
N_START, N_ITER = 3, 4
"""Iterations before and after the two ways part in the report of a fit: 8 applications of N per image."""


@dataclass(frozen=True)
class ImageError:
    """What Ñ in place of N does to a reconstruction, inside a box.

    ``caused``: ‖x_N − x_Ñ‖ / ‖x_N‖; ``start``, ``exact`` and ``approximated``: distance from the truth of the estimate
    that both begin with, and of either result.
    """

    caused: float
    start: float
    exact: float
    approximated: float


@dataclass(frozen=True)
class Trial:
    """One image solved for with N, ready to be solved for with any Ñ; volumes (1, 1, z, y, x).

    x̂ = ``start`` comes from exact conjugate gradients; then (N + ``shift``) δ = N (truth − x̂) = ``residual`` is solved by
    ``n_iter`` iterations and ``exact`` is x̂ + δ: a refinement whose residual image is exact, as the unrolled method's
    second stage is. With ``patch`` all of it happens inside that box, by P N Pᵀ.
    """

    truth: torch.Tensor
    start: torch.Tensor
    residual: torch.Tensor
    exact: torch.Tensor
    shift: float
    n_iter: int
    patch: Box | None = None

    @classmethod
    def make(
        cls, normal: CountedNormal, truth: torch.Tensor, patch: Box | None = None, n_start: int = 4, n_iter: int = 6
    ) -> Trial:
        """Solve with N: ``n_start + n_iter + 1`` applications."""
        operator = normal if patch is None else (lambda u: normal.patch(u, patch))
        b = operator(truth)
        begun = _iterate(operator, b, n_start)
        start, residual = begun.x, begun.residual
        shift = SHIFT * float(torch.linalg.vector_norm(b) / torch.linalg.vector_norm(truth))
        exact = start + _iterate(lambda p: operator(p) + shift * p, residual, n_iter).x
        return cls(truth, start, residual, exact, shift, n_iter, patch)

    def error(self, factors: NormalFactors, inside: Box | None = None) -> ImageError:
        """Solve with Ñ and compare, in the box ``inside`` of the volume or patch."""
        operator = factors.apply if self.patch is None else factors.restrict(self.patch).apply
        delta = _iterate(lambda p: operator(p) + self.shift * p, self.residual, self.n_iter).x
        where = (slice(None), slice(None), *(inside or (slice(None),) * 3))
        t, s, e, a = (v[where] for v in (self.truth, self.start, self.exact, self.start + delta))
        return ImageError(relative_error(e, a), relative_error(t, s), relative_error(t, e), relative_error(t, a))


def held_out_trial(physics: VolumePhysics, seed: int, patch: int | None) -> tuple[Trial, int]:
    """A trial on a generated image, in a random patch of that edge or whole, and its applications of N."""
    normal = CountedNormal(physics)
    box = None if patch is None else random_box(normal.shape, patch, seed)
    shape: Shape = normal.shape if box is None else tuple(s.stop - s.start for s in box)
    truth = ellipsoids(shape, normal.dtype, seed, normal.device)
    return Trial.make(normal, truth, box, N_START, N_ITER), normal.calls


def final_image_error(
    physics: VolumePhysics,
    factors: NormalFactors,
    truth: torch.Tensor,
    box: Box | None = None,
    n_start: int = 4,
    n_iter: int = 6,
) -> ImageError:
    """The error that Ñ causes in the image of ``truth`` (1, 1, z, y, x), inside ``box``; see :class:`Trial`."""
    return Trial.make(CountedNormal(physics), truth, None, n_start, n_iter).error(factors, box)


def _iterate(operator: Apply, b: torch.Tensor, n_iter: int) -> Solution:
    """``n_iter`` conjugate gradient steps from zero, fewer where ``operator`` turns out not to be positive."""
    return conjugate_gradients(operator, b, tolerance=0, max_steps=n_iter)
