"""What a fit asks the exact operator: probe positions and vectors, counted calls, errors on held-out vectors.

Must not know forms of the approximation beyond ``factors.apply``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc

from napari_unroll.normal.patch import Shape


class CountedNormal:
    """N = AᴴA of a physics on tensors (B, 1, z, y, x), counting how many volumes it was applied to."""

    def __init__(self, physics: Any) -> None:
        self.physics = physics
        self.calls = 0

    @property
    def shape(self) -> Shape:
        """Volume (z, y, x)."""
        return tuple(self.physics.x_shape[-3:])

    @property
    def dtype(self) -> torch.dtype:
        """Of the volume."""
        found: torch.dtype = self.physics.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Of the volume."""
        return torch.device(getattr(self.physics, "device", "cpu"))

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += x.shape[0]
        out: torch.Tensor = self.physics.A_adjoint(self.physics.A(x))
        return out

    def zeros(self) -> torch.Tensor:
        """A zero volume (1, 1, z, y, x)."""
        return torch.zeros(1, 1, *self.shape, dtype=self.dtype, device=self.device)

    def impulse_response(self, position: Sequence[int]) -> torch.Tensor:
        """The column N e_j (z, y, x) for the voxel j = ``position``."""
        e = self.zeros()
        e[(0, 0, *position)] = 1
        return self(e)[0, 0]


def spread_positions(shape: Shape, n: int, seed: int = 0) -> np.ndarray:
    """``n`` voxels (n, 3) spread evenly over the volume by a scrambled Sobol sequence, in an order that refines."""
    sobol = qmc.Sobol(3, scramble=True, rng=np.random.default_rng(seed))
    points = sobol.random_base2(max(0, int(np.ceil(np.log2(max(n, 1))))))[:n]
    return np.minimum((points * np.array(shape)).astype(int), np.array(shape) - 1)


def gaussian(shape: Shape, dtype: torch.dtype, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """White Gaussian volume (1, 1, z, y, x) of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, 1, *shape), generator=generator, dtype=dtype).to(device)


def coloured(shape: Shape, dtype: torch.dtype, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Gaussian volume with amplitude 1 / |frequency|, as images have: slow structures dominate. Unit variance."""
    w = gaussian(shape, dtype, seed, device)
    radius = frequency_radius(shape).to(device)
    f = torch.fft.fftn(w, dim=(-3, -2, -1)) / radius.clamp_min(1.0 / max(shape))
    v = torch.fft.ifftn(f, dim=(-3, -2, -1))
    v = v if dtype.is_complex else v.real
    return (v / v.abs().square().mean().sqrt()).to(dtype)


def frequency_radius(shape: Shape) -> torch.Tensor:
    """|frequency| (z, y, x) in cycles per voxel, in the order of the FFT."""
    axes = [torch.fft.fftfreq(n) for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return (z * z + y * y + x * x).sqrt()


def ellipsoids(shape: Shape, dtype: torch.dtype, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """An image-like volume (1, 1, z, y, x): one body holding twelve sharp ellipsoids; a smooth phase if complex."""
    rng = np.random.default_rng(seed)
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    v = ((z / 0.85) ** 2 + (y / 0.75) ** 2 + (x / 0.8) ** 2 < 1).float()
    for _ in range(12):
        c, r = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.06, 0.3, 3)
        inside = sum(((a - q) / s) ** 2 for a, q, s in zip((z, y, x), c, r, strict=True)) < 1
        v = v + float(rng.uniform(-0.6, 0.8)) * inside * (v > 0)
    if dtype.is_complex:
        phase = 0.8 * (rng.normal() * x + rng.normal() * y + rng.normal() * x * y)
        return torch.polar(v, phase)[None, None].to(device, dtype)
    return v[None, None].to(device, dtype)


def error_after_descent(normal: CountedNormal, x: torch.Tensor, n_iter: int = 5, size: float = 0.0) -> torch.Tensor:
    """x − x_n after ``n_iter`` gradient steps from zero: the kind of image that a data step really sees."""
    e = x
    step = 1.0 / (size or _norm_bound(normal, x))
    for _ in range(n_iter):
        e = e - step * normal(e)
    return e


def _norm_bound(normal: CountedNormal, x: torch.Tensor) -> float:
    value = 1.0
    for _ in range(3):
        x = normal(x / torch.linalg.vector_norm(x))
        value = float(torch.linalg.vector_norm(x))
    return 1.05 * value


def relative_error(exact: torch.Tensor, approximated: torch.Tensor) -> float:
    """‖exact − approximated‖ / ‖exact‖, 0 for two zeros."""
    size = float(torch.linalg.vector_norm(exact))
    gap = float(torch.linalg.vector_norm(exact - approximated))
    return gap / size if size > 0 else 0.0 if gap == 0 else float("inf")


@dataclass
class HeldOut:
    """Vectors that no fit uses, with their exact images, by kind (``gaussian``, ``image``)."""

    pairs: Mapping[str, list[tuple[torch.Tensor, torch.Tensor]]] = field(default_factory=dict)

    @classmethod
    def make(cls, normal: CountedNormal, n: int, seed: int = 10_000) -> HeldOut:
        """``n`` vectors of each kind: white noise, and phantoms alternating with 5-step descent errors."""
        shape, dtype, device = normal.shape, normal.dtype, normal.device
        noise = [gaussian(shape, dtype, seed + i, device) for i in range(n)]
        images = [ellipsoids(shape, dtype, seed + i, device) for i in range(n)]
        return cls({
            "gaussian": [(w, normal(w)) for w in noise],
            "image": [(x, normal(x)) for x in images],
        })  # fmt: skip

    def samples(self, factors: Any) -> dict[str, np.ndarray]:
        """Relative errors per kind and vector."""
        with torch.no_grad():
            return {k: np.array([relative_error(y, factors.apply(x)) for x, y in p]) for k, p in self.pairs.items()}

    def errors(self, factors: Any) -> dict[str, float]:
        """``error_<kind>`` (mean) and ``error_<kind>_sem`` (standard error of that mean)."""
        return summarise(self.samples(factors))


def summarise(samples: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean and standard error per kind."""
    out: dict[str, float] = {}
    for kind, values in samples.items():
        if values.size:
            out[f"error_{kind}"] = float(values.mean())
            out[f"error_{kind}_sem"] = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return out
