"""Sparsity in an orthonormal wavelet basis and its proximal map, real or complex.

Outside the volume everything is zero, and all coefficients that are not zero for that are kept, so WᵀW = 1 for every
shape, also odd ones. The transform is ptwt's (Wolter et al. 2024, jmlr.org/papers/v25/23-0636.html). Complex volumes:
real weights act on both parts, and |c| is the complex magnitude, so no phase is preferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pywt
import torch
from ptwt.conv_transform_2 import wavedec2, waverec2
from ptwt.conv_transform_3 import wavedec3, waverec3

Shape = tuple[int, int, int]
Shift = tuple[int, int, int]


class Wavelets:
    """W on volumes (z, y, x) of one shape; ``level`` scales at most, as many as the shape has room for.

    Volumes thinner than the wavelet are transformed plane by plane.
    """

    def __init__(self, shape: Shape, wavelet: str = "db4", level: int = 3) -> None:
        self.shape = shape
        self.wavelet = pywt.Wavelet(wavelet)
        self.flat = shape[0] < self.wavelet.dec_len
        axes = shape[1:] if self.flat else shape
        room = pywt.dwt_max_level(min(axes), self.wavelet.dec_len)
        self.level = max(1, min(level, room))

    def analysis(self, x: torch.Tensor, shift: Shift = (0, 0, 0)) -> list[torch.Tensor]:
        """Details of all scales, then the approximation: real tensors whose first axis is the part (real, imaginary).

        ``shift`` (z, y, x) moves the origin of the dyadic grid by so many voxels.
        """
        parts = torch.view_as_real(x).movedim(-1, 0) if x.is_complex() else x[None]
        parts = torch.nn.functional.pad(parts, [n for s in reversed(self._used(shift)) for n in (s, 0)])
        transform: Any = wavedec2 if self.flat else wavedec3
        approximation, *scales = transform(parts.contiguous(), self.wavelet, mode="zero", level=self.level)
        return [d for scale in scales for d in _details(scale)] + [approximation]

    def synthesis(self, coefficients: Sequence[torch.Tensor], shift: Shift = (0, 0, 0)) -> torch.Tensor:
        """Wᵀ of such coefficients, (z, y, x)."""
        *details, approximation = coefficients
        n = 3 if self.flat else 7
        groups = [details[i : i + n] for i in range(0, len(details), n)]
        scales = [tuple(g) if self.flat else dict(zip(_KEYS, g, strict=True)) for g in groups]
        transform: Any = waverec2 if self.flat else waverec3
        parts = transform((approximation, *scales), self.wavelet)
        for axis, (s, n) in enumerate(zip(self._used(shift), self.shape, strict=True)):
            parts = parts.narrow(axis + 1, s, n)
        return torch.view_as_complex(parts.movedim(0, -1).contiguous()) if len(parts) == 2 else parts[0]

    def _used(self, shift: Shift) -> Shift:
        return (0, *shift[1:]) if self.flat else shift


_KEYS = ("aad", "ada", "add", "daa", "dad", "dda", "ddd")


def _details(scale: Any) -> list[torch.Tensor]:
    return [scale[key] for key in _KEYS] if isinstance(scale, dict) else list(scale)


class WaveletSparsity:
    """‖W x‖₁ over the details of all scales; keeps the dual coefficients between calls without shifts (warm start)."""

    def __init__(self, transform: Wavelets, positivity: bool = False) -> None:
        self.transform, self.positivity = transform, positivity
        self.dual: list[torch.Tensor] | None = None

    def value(self, x: torch.Tensor) -> float:
        """‖W x‖₁."""
        return sum(float(_magnitude(c).sum(dtype=torch.float64)) for c in self.transform.analysis(x)[:-1])

    def prox(self, b: torch.Tensor, weight: float, n_inner: int, shift: Shift | None = None) -> torch.Tensor:
        """argmin_x ½‖x − b‖² + weight ‖W x‖₁, over x ≥ 0 with positivity.

        ``n_inner`` dual steps p ← clip(p + W x), x = b − Wᵀp; the first from p = 0 is soft thresholding, which is exact
        for an orthonormal W without constraint; more are needed with positivity, and near the volume's border. A
        ``shift`` starts afresh.
        """
        at = shift or (0, 0, 0)
        p = None if shift else self.dual
        x = self._project(b if p is None else b - self.transform.synthesis(p, at))
        for _ in range(n_inner):
            c = self.transform.analysis(x, at)
            c = c if p is None else [a.add_(q) for a, q in zip(c, p, strict=True)]
            p = [_clip(a, weight) for a in c[:-1]] + [torch.zeros_like(c[-1])]
            x = self._project(b - self.transform.synthesis(p, at))
        self.dual = None if shift else p
        return x

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0) if self.positivity else x


def _magnitude(c: torch.Tensor) -> torch.Tensor:
    """|c| over both parts."""
    return c[0].abs() if len(c) == 1 else torch.hypot(c[0], c[1])


def _clip(c: torch.Tensor, weight: float) -> torch.Tensor:
    """c, changed in place so that no |c| exceeds ``weight``."""
    return c.mul_(weight / _magnitude(c).clamp_(min=max(weight, 1e-30)))
