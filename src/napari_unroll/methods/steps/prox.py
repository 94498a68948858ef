"""The proximal map of the data term, argmin_x ½‖A x − y‖² + (w/2)‖x − z‖², by conjugate gradients.

Written for the correction d = x − z it is (N + w) d = −∇f(z) with N = AᴴA: the nearer z is to the data, the less there is
to do. Matrix-free; real and complex volumes alike. Sees callables and tensors only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from napari_unroll.normal.precondition import Apply
from napari_unroll.physics.solvers import conjugate_gradient_steps


@torch.no_grad()
def proximal_steps(
    normal: Apply, adjoint: torch.Tensor, z: torch.Tensor, weight: float, tolerance: float, max_steps: int
) -> Iterator[torch.Tensor]:
    """Solve (N + w) x = Aᴴy + w z from x = z; yields z and the iterate after every step.

    ``normal`` is N on (1, 1, z, y, x), ``adjoint`` Aᴴy, ``weight`` w ≥ 0. Ends where the residual has fallen to ``tolerance``
    times its start, or after ``max_steps``.
    """
    descent = adjoint - normal(z)
    steps = conjugate_gradient_steps(
        lambda d: normal(d) + weight * d, descent, tolerance=tolerance, max_steps=max_steps
    )
    for solution in steps:
        yield z + solution.x
