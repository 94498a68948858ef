"""The approximated normal operator Ñ = Σ_k L_kᴴ C_k R_k: a frozen value with its evaluation.

C_k are convolutions, linear (zero-padded) or circular per axis; L_k and R_k are weights in space. D·C, C·D, Dᴴ·C·D,
sums of them, the exact coil sum of Cartesian MRI and the phases of super-resolution are all of this shape. Works on
tensors alone; must not know how the factors were fitted, nor physics, scans or viewers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box, whole
from napari_unroll.interrupt import stage
from napari_unroll.normal import blocks
from napari_unroll.normal.patch import PatchNormal
from napari_unroll.physics.convolution import AXES, Circular, Convolution, Pairs, Shape, make_convolution
from napari_unroll.physics.laws import power_iteration
from napari_unroll.physics.solvers import lanczos_steps

Side = Literal["left", "right"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalFactors:
    """Ñ = Σ_k L_kᴴ C_k R_k on volumes of one shape.

    ``kernel`` (K or 1, z, y, x) in wrapped lag order: a linear axis holds lags −(s−1) … s−1 at index lag mod 2s
    (s ≤ n; beyond s the kernel counts as zero; length 1 holds lag 0 alone), a circular one all n lags. ``left`` and
    ``right`` (K or 1, z, y, x) are L_k and R_k, None for one. Pass the same tensor twice for a symmetric operator.
    With ``pairs`` the sum runs over (a, b, k) instead, Σ L_aᴴ C_k R_b, which shares transforms between terms; if
    ``polynomial`` each side has the four weights 1, z, y, x (:func:`coordinates`) times the one weight that it holds.
    ``positive_kernel`` says that every kernel holds lags of a convolution with λ ≥ 0 on some larger grid, as most fits
    ensure (see ``normal.positivity``); ``exact`` that Ñ is AᴴA itself. ``info`` is what the fit tells: plain numbers and words.
    """

    kernel: torch.Tensor
    left: torch.Tensor | None
    right: torch.Tensor | None
    shape: Shape
    circular: Circular = (False, False, False)
    form: str = "dcd"
    pairs: Pairs | None = None
    polynomial: bool = False
    positive_kernel: bool = False
    exact: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        _check(self)

    @property
    def symmetric(self) -> bool:
        """Whether L_k is R_k by construction (the kernel is Hermitian in every fit)."""
        return self.left is self.right

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.kernel.device

    @property
    def is_complex(self) -> bool:
        """Whether any part is complex, so that real volumes become complex."""
        return any(t is not None and t.is_complex() for t in (self.kernel, self.left, self.right))

    @property
    def dtype(self) -> torch.dtype:
        """Of the volumes that Ñ acts on."""
        dtype = self.kernel.real.dtype
        return torch.promote_types(dtype, torch.complex64) if self.is_complex else dtype

    @property
    def terms(self) -> Pairs:
        """All (a, b, k): which left weight, right weight and kernel each term of the sum uses."""
        if self.pairs is not None:
            return self.pairs
        counts = (self.count("left"), self.count("right"), self.kernel.shape[0])
        return tuple(tuple(min(k, n - 1) for n in counts) for k in range(max(counts)))  # type: ignore[misc]

    @property
    def nbytes(self) -> int:
        """Bytes of kernel and weights."""
        parts = {id(t): t for t in (self.kernel, self.left, self.right) if t is not None}
        return sum(t.element_size() * t.nelement() for t in parts.values())

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Ñ x for x (B, 1, z, y, x), one term after the other to spare memory."""
        if x.is_complex() and not self.is_complex:
            return torch.complex(self.apply(x.real), self.apply(x.imag))
        if blocks.worthwhile(self):
            return blocks.apply(self, x)
        convolution = self.convolution(self.shape)
        if self.pairs is not None:
            return self.restrict(whole(self.shape)).apply(x)
        out: torch.Tensor | None = None
        for a, b, k in self.terms:
            one = replace(convolution, spectrum=convolution.spectrum[[k]])
            part = PatchNormal(one, _pick(self.left, a), _pick(self.right, b)).apply(x)
            out = part if out is None else out + part
        assert out is not None
        return out

    __call__ = apply

    def restrict(self, boxes: Box | Sequence[Box]) -> PatchNormal:
        """P Ñ Pᵀ for one box or a batch of equally shaped boxes (z, y, x), exact.

        Raises ParameterError where boxes differ in shape or leave the volume.
        """
        many: list[Box] = [boxes] if isinstance(boxes[0], slice) else list(boxes)  # type: ignore[arg-type,list-item]
        patch = _common_shape(many, self.shape)
        left = self._stacked("left", many)
        right = left if self.symmetric else self._stacked("right", many)
        return PatchNormal(self.convolution(patch), left, right, self.pairs)

    def restricted(self, box: Box) -> NormalFactors:
        """P Ñ Pᵀ as factors of their own, exact; raises ParameterError where an axis is circular, whose ends belong together."""
        patch = _common_shape([box], self.shape)
        if any(circular and p < n for circular, p, n in zip(self.circular, patch, self.shape, strict=True)):
            raise ParameterError("A circular normal operator cannot be restricted to a region; fit a linear one.")
        left = self.weights("left", box)
        right = left if self.symmetric else self.weights("right", box)
        return replace(self.crop(patch), left=left, right=right, shape=patch, polynomial=False, _cache={})

    def count(self, side: Side) -> int:
        """How many weights a side has."""
        held = self.left if side == "left" else self.right
        return 4 if self.polynomial else 1 if held is None else held.shape[0]

    def weights(self, side: Side, box: Box) -> torch.Tensor | None:
        """All weights of a side in a box, (k, z, y, x); None for one."""
        held = self.left if side == "left" else self.right
        if held is None or not self.polynomial:
            return None if held is None else held[(slice(None), *box)]
        z, y, x = (torch.from_numpy(c[b]).to(held) for c, b in zip(coordinates(self.shape), box, strict=True))
        here = held[(0, *box)]
        return torch.stack([here, here * z[:, None, None], here * y[:, None], here * x])

    def weight(self, side: Side, k: int) -> torch.Tensor | None:
        """Weight ``k`` of a side on the whole volume (z, y, x); None for one."""
        held = self.left if side == "left" else self.right
        if held is None or not self.polynomial:
            return None if held is None else held[k]
        if k == 0:
            return held[0]
        axis = torch.from_numpy(coordinates(self.shape)[k - 1]).to(held)
        return held[0] * axis.reshape([-1 if a == k - 1 else 1 for a in range(3)])

    def _stacked(self, side: Side, many: Sequence[Box]) -> torch.Tensor | None:
        parts = [part for box in many if (part := self.weights(side, box)) is not None]
        return torch.stack(parts) if parts else None

    def convolution(self, patch: Shape) -> Convolution:
        """The kernels' spectra for patches of shape ``patch``, computed once."""
        dtype = torch.promote_types(self.kernel.dtype, torch.complex64) if self.is_complex else self.kernel.dtype
        return self.once(
            ("convolution", *patch), lambda: make_convolution(self.kernel.to(dtype), self.shape, patch, self.circular)
        )

    @property
    def norm_squared(self) -> float:
        """Largest eigenvalue of Ñ (seeded, cached): the step size is its inverse.

        Kernels without the far lags would give too little; their fit leaves a bound of N itself in ``info``.
        """
        return self.once(("norm",), lambda: _norm(self))

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What ``make`` gives, made once per ``key`` and kept with these factors."""
        if key not in self._cache:
            self._cache[key] = make()
        found: T = self._cache[key]
        return found

    def to(self, device: torch.device | str) -> NormalFactors:
        """The same factors on ``device``."""
        left = None if self.left is None else self.left.to(device)
        right = left if self.symmetric else None if self.right is None else self.right.to(device)
        return replace(self, kernel=self.kernel.to(device), left=left, right=right, _cache={})

    def crop(self, patch: Shape) -> NormalFactors:
        """The same operator with linear kernels cut to the lags that patches up to ``patch`` need.

        Exact on such patches at a fraction of the memory; on the whole volume the far lags are gone.
        """
        kernel = self.kernel
        for axis, p, circular in zip(AXES, patch, self.circular, strict=True):
            s = kernel.shape[axis] // 2
            if not circular and 1 <= p < s:
                keep = torch.cat([torch.arange(p), torch.tensor([s]), torch.arange(2 * s - p + 1, 2 * s)])
                kernel = kernel.index_select(axis, keep.to(kernel.device))
        return replace(self, kernel=kernel.contiguous(), _cache={})

    @property
    def d_map(self) -> np.ndarray:
        """The weight in space (z, y, x), float32: the diagonal of Ñ in units of its first kernel's lag zero."""
        return np.asarray(diagonal(self).abs().float().cpu().numpy())

    @property
    def kernel_map(self) -> np.ndarray:
        """The kernels' mean (z, y, x), float32, lag zero at index n // 2: real part, for viewers."""
        h = torch.fft.fftshift(self.kernel.mean(0))
        return np.asarray((h.real if h.is_complex() else h).float().cpu().numpy())

    @property
    def frequency_map(self) -> np.ndarray:
        """|λ| of the mean kernel (z, y, x), float32, frequency zero at index n // 2, for viewers."""
        spectrum = torch.fft.fftn(self.kernel.mean(0)).abs()
        return np.asarray(torch.fft.fftshift(spectrum).float().cpu().numpy())


def coordinates(shape: Shape) -> list[np.ndarray]:
    """Voxel coordinates along z, y, x, float32, −1 … 1 over the volume."""
    return [((np.arange(n) - (n - 1) / 2) / (n / 2)).astype(np.float32) for n in shape]


def diagonal(factors: NormalFactors) -> torch.Tensor:
    """Σ conj(L_a) R_b h_k(0) / h_0(0), (z, y, x): d for one kernel, Σ|S_c|² for coils."""
    out = torch.zeros(factors.shape, dtype=factors.dtype, device=factors.device)
    for a, b, k in factors.terms:
        left, right = factors.weight("left", a), factors.weight("right", b)
        product = (1.0 if left is None else left.conj()) * (1.0 if right is None else right)
        out += product * (factors.kernel[k, 0, 0, 0] / factors.kernel[0, 0, 0, 0])
    return out


def _norm(factors: NormalFactors) -> float:
    """The bound of ‖N‖ that the fit left, or ‖Ñ‖ where that may be more."""
    bound = float(factors.info.get("norm_bound", 0.0))
    if bound > 0 and _largest_row_sum(factors) <= bound:
        return bound
    return max(top_eigenvalue(factors), bound)


def _largest_row_sum(factors: NormalFactors) -> float:
    """max_i Σ_j |Ñ_ij| ≥ ‖Ñ‖ of a symmetric Ñ of one convolution, for one application; infinite for others."""
    if not factors.symmetric or len(factors.terms) > 1:
        return math.inf
    weight = None if factors.left is None else factors.left.abs()
    positive = replace(factors, kernel=factors.kernel.abs(), left=weight, right=weight, _cache={})
    with torch.no_grad():
        ones = torch.ones(1, 1, *factors.shape, dtype=positive.dtype, device=factors.device)
        return float(positive.apply(ones).max())


def top_eigenvalue(factors: NormalFactors, n_iter: int = 60, seed: int = 0, tolerance: float = 1e-5) -> float:
    """‖Ñ‖ from a constant plus seeded noise, for the leading vectors of CT and MRI are smooth.

    By Lanczos where Ñ is symmetric, which takes a quarter of the applications of the power iteration that others need.
    """
    generator = torch.Generator().manual_seed(seed)
    x = (1 + 0.3 * torch.randn(1, 1, *factors.shape, generator=generator)).to(factors.device, factors.dtype)
    estimates = _ritz_values(factors.apply, x) if factors.symmetric else power_iteration(factors.apply, x)
    value = 0.0
    with torch.no_grad(), stage(n_iter) as done:
        for k in range(n_iter):
            done(k)
            last, value = value, next(estimates, value)
            if abs(value - last) <= tolerance * value:
                break
    return value


def _ritz_values(apply: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Iterator[float]:
    """The largest |eigenvalue| of Ñ on span(x, Ñx, …, Ñᵏx): Golub and Van Loan, Matrix Computations, 4th ed., sec. 10.1."""
    diagonal, beside = list[float](), list[float]()
    for _, value, size in lanczos_steps(apply, x, n_kept=2):
        diagonal.append(value)
        beside.append(size)
        yield float(abs(eigvalsh_tridiagonal(diagonal, beside[1:])).max())


def _check(f: NormalFactors) -> None:
    if f.kernel.ndim != 4:
        raise ParameterError(f"Kernels need axes (k, z, y, x); got shape {tuple(f.kernel.shape)}.")
    for m, n, circular in zip(f.kernel.shape[1:], f.shape, f.circular, strict=True):
        if m != 1 and (m != n if circular else m % 2 or m > 2 * n):
            expected = f"{n}" if circular else f"an even number up to {2 * n}"
            raise ParameterError(f"The kernel has {m} lags along an axis of {n} voxels; expected 1 or {expected}.")
    for name, weights in (("left", f.left), ("right", f.right)):
        if weights is not None and tuple(weights.shape[1:]) != f.shape:
            raise ParameterError(f"The {name} weights must have shape (k, {f.shape}); got {tuple(weights.shape)}.")
    counts = (f.count("left"), f.count("right"), f.kernel.shape[0])
    if any(i >= n for term in f.terms for i, n in zip(term, counts, strict=True)):
        raise ParameterError(f"The terms {f.terms} name weights or kernels beyond the {counts} given.")


def _common_shape(boxes: Sequence[Box], shape: Shape) -> Shape:
    shapes = {tuple(s.stop - s.start for s in box) for box in boxes}
    inside = all(0 <= s.start < s.stop <= n for box in boxes for s, n in zip(box, shape, strict=True))
    if len(shapes) != 1 or not inside:
        raise ParameterError(f"Patches must share one shape and lie inside the volume {shape}; got shapes {shapes}.")
    return shapes.pop()


def _pick(weights: torch.Tensor | None, k: int) -> torch.Tensor | None:
    return None if weights is None else weights[None, [k]]
