"""Conjugate gradients for N x = b with N self-adjoint and positive, real or complex, a batch at a time.

Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems" (1952), doi:10.6028/jres.049.044;
preconditioned as in Saad, "Iterative Methods for Sparse Linear Systems" (2003), algorithm 9.1. Sees callables only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from napari_unroll.physics.autograd import Apply


@dataclass(frozen=True)
class Solution:
    """Where the iteration is: ``x`` and ``residual`` = b − N x, as the recursion has it, (batch, …).

    ``relative`` (batch,) is ‖b − N x‖ / ‖b‖. ``is_indefinite`` tells of a vector on which operator or preconditioner
    was negative; the items that met one keep what they had.
    """

    x: torch.Tensor
    residual: torch.Tensor
    steps: int
    relative: torch.Tensor
    converged: bool
    is_indefinite: bool

    @property
    def advice(self) -> str:
        """What happened, and what to do where it did not converge."""
        worst = f"{self.steps} conjugate gradient steps, relative residual {float(self.relative.max()):.1e}"
        if self.converged:
            return f"{worst}."
        if self.is_indefinite:
            return f"{worst}; stopped, because the operator or its preconditioner is not positive. Use a positive form."
        return f"{worst}: not converged. Allow more steps or a larger tolerance, or precondition."


def conjugate_gradients(
    apply: Apply,
    b: torch.Tensor,
    x0: torch.Tensor | None = None,
    precondition: Apply | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 100,
) -> Solution:
    """The last of :func:`conjugate_gradient_steps`."""
    *_, last = conjugate_gradient_steps(apply, b, x0, precondition, tolerance, max_steps)
    return last


@torch.no_grad()
def conjugate_gradient_steps(
    apply: Apply,
    b: torch.Tensor,
    x0: torch.Tensor | None = None,
    precondition: Apply | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 100,
) -> Iterator[Solution]:
    """Solve N x = b from ``x0`` (zero); yields the start and then every step, so that a listener may stop.

    ``apply`` is N on a batch whose items (first axis) do not mix; each has step sizes of its own and rests once its
    ‖b − N x‖ is at most ``tolerance`` ‖b‖. ``precondition`` is M ≈ N⁻¹, self-adjoint and positive. No gradients pass.
    """
    precondition = precondition or (lambda r: r)
    size = _inner(b, b).sqrt()
    x = torch.zeros_like(b) if x0 is None else torch.where(size > 0, x0, 0)
    r = b if x0 is None else b - apply(x)
    z = p = precondition(r)
    rho, left = _inner(r, z), _inner(r, r).sqrt()
    active, negative = left > tolerance * size, torch.zeros_like(size, dtype=torch.bool)
    yield _solution(x, r, 0, left, size, tolerance, negative)
    for step in range(1, max_steps + 1):
        if not active.any():
            return
        q = apply(p)
        curvature = _inner(p, q)
        negative = negative | (active & ((curvature < 0) | (rho < 0)))
        active = active & (curvature > 0) & (rho > 0)
        length = _quotient(rho, curvature, active).to(b.real.dtype)
        x, r = torch.where(active, x + length * p, x), torch.where(active, r - length * q, r)
        z = precondition(r)
        last, rho = rho, _inner(r, z)
        p = z + _quotient(rho, last, active).to(b.real.dtype) * p
        left = _inner(r, r).sqrt()
        active = active & (left > tolerance * size)
        yield _solution(x, r, step, left, size, tolerance, negative)


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Re⟨a, b⟩ of every item in double precision, with axes of one to multiply it by."""
    products = (a.conj() * b).real if a.is_complex() else a * b
    return products.flatten(1).sum(1, dtype=torch.float64).reshape(-1, *[1] * (a.ndim - 1))


def _quotient(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """a / b where asked for, and zero elsewhere, whatever b is there."""
    return torch.where(where, a / torch.where(where, b, 1), 0)


def _solution(
    x: torch.Tensor,
    r: torch.Tensor,
    steps: int,
    left: torch.Tensor,
    size: torch.Tensor,
    tolerance: float,
    negative: torch.Tensor,
) -> Solution:
    relative = _quotient(left, size, size > 0).flatten()
    return Solution(x, r, steps, relative, bool((left <= tolerance * size).all()), bool(negative.any()))


@torch.no_grad()
def lanczos(apply: Apply, b: torch.Tensor, n_steps: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Orthonormal vectors V of the Krylov space of N and b, the first along b, and T = Vᴴ N V (step, step), float64.

    Conjugate gradients from zero make x = V (T + w)⁻¹ Vᴴ b of (N + w) x = b, whatever the shift w: one V serves all shifts.
    Lanczos, doi:10.6028/jres.045.026, with full orthogonalisation; fewer vectors where the space is smaller, none for b = 0.
    """
    vectors: list[torch.Tensor] = []
    T = torch.zeros(n_steps, n_steps, dtype=torch.float64)
    for k, (v, value, size) in enumerate(islice(lanczos_steps(apply, b), n_steps)):
        vectors.append(v)
        T[k, k] = value
        if k:
            T[k, k - 1] = T[k - 1, k] = size
    return vectors, T[: len(vectors), : len(vectors)]


def lanczos_steps(
    apply: Apply, b: torch.Tensor, n_kept: int | None = None
) -> Iterator[tuple[torch.Tensor, float, float]]:
    """Per application of N the next vector v of that space, ⟨v, N v⟩, and ⟨v, N u⟩ of the one before (of the first: ‖b‖).

    It is made orthogonal to the last ``n_kept`` vectors, None for all; two are enough but for rounding. Ends with the space.
    """
    kept: deque[torch.Tensor] = deque(maxlen=n_kept)
    q, largest = b, 0.0
    while (size := float(torch.linalg.vector_norm(q))) > 1e-6 * largest:
        largest = max(largest, size) if kept else largest
        kept.append(q / size)
        q = apply(kept[-1])
        value = float(_inner(kept[-1], q).sum())
        largest = max(largest, abs(value))
        yield kept[-1], value, size
        for v in kept:
            q = q - (v.conj() * q).sum() * v
