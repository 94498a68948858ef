"""The proximal map of the data term, argmin_x ½‖A x − y‖² + (w/2)‖x − z‖², by conjugate gradients.

Written for the correction d = x − z it is (N + w) d = −∇f(z) with N = AᴴA: the nearer z is to the data, the less there is
to do. Matrix-free; real and complex volumes alike. Sees callables and tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from napari_unroll.physics.laws import inner, norm

Apply = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def proximal_steps(
    normal: Apply, adjoint: torch.Tensor, z: torch.Tensor, weight: float, tolerance: float, max_steps: int
) -> Iterator[torch.Tensor]:
    """Solve (N + w) x = Aᴴy + w z from x = z; yields z and the iterate after every step, so that a listener may stop.

    ``normal`` is N on (…, z, y, x), ``adjoint`` Aᴴy, ``weight`` w ≥ 0. Ends where the residual has fallen to ``tolerance``
    times its start, or after ``max_steps``. Hestenes and Stiefel 1952, doi:10.6028/jres.049.044.
    """
    d, r = torch.zeros_like(z), adjoint - normal(z)
    p, rho = r, inner(r, r).real
    goal = tolerance**2 * rho
    yield z
    for _ in range(max_steps):
        if rho <= goal:
            return
        q = normal(p) + weight * p
        curvature = inner(p, q).real
        if curvature <= 0:  # rounding, where there is nothing left to gain
            return
        length = rho / curvature
        d, r = d + length * p, r - length * q
        last, rho = rho, norm(r) ** 2
        p = r + (rho / last) * p
        yield z + d
