"""What a fit asks the exact operator: probe positions and vectors, counted calls, errors on held-out vectors.

Must not know forms of the approximation beyond ``factors.apply``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy.stats import qmc

from napari_unroll.events import Box
from napari_unroll.interrupt import stage
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.convolution import Shape
from napari_unroll.physics.volume_physics import VolumePhysics


class CountedNormal:
    """N = AᴴA of a physics on tensors (B, 1, z, y, x), counting how many volumes it was applied to."""

    def __init__(self, physics: VolumePhysics) -> None:
        self.physics = physics
        self.calls = 0

    @property
    def shape(self) -> Shape:
        """Volume (z, y, x)."""
        return self.physics.grid.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the volume."""
        return self.physics.dtype

    @property
    def device(self) -> torch.device:
        """Of the volume."""
        return self.physics.device

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """N x for x (batch, 1, z, y, x); every volume of the batch counts."""
        self.calls += x.shape[0]
        return self.physics.normal(x)

    def zeros(self) -> torch.Tensor:
        """A zero volume (1, 1, z, y, x)."""
        return torch.zeros(1, 1, *self.shape, dtype=self.dtype, device=self.device)

    def column(self, position: Sequence[int], box: Box) -> torch.Tensor:
        """N[box, j] (z, y, x) for the voxel j = ``position`` in ``box``."""
        e = torch.zeros([1, 1, *(b.stop - b.start for b in box)], dtype=self.dtype, device=self.device)
        e[(0, 0, *(int(p) - b.start for p, b in zip(position, box, strict=True)))] = 1
        return self.patch(e, box)[0, 0]

    @torch.no_grad()
    def patch(self, u: torch.Tensor, box: Box) -> torch.Tensor:
        """P N Pᵀ u for u (1, 1, z, y, x) of the shape of ``box``; on the box alone where the physics can."""
        self.calls += 1
        whole = all(b.stop - b.start == n for b, n in zip(box, self.shape, strict=True))
        local = self.physics if whole else self.physics.restrict(box)
        return local.normal(u)


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


def relative_error(exact: torch.Tensor, approximated: torch.Tensor) -> float:
    """‖exact − approximated‖ / ‖exact‖, 0 for two zeros."""
    size = float(torch.linalg.vector_norm(exact))
    gap = float(torch.linalg.vector_norm(exact - approximated))
    return gap / size if size > 0 else 0.0 if gap == 0 else float("inf")


@dataclass(frozen=True)
class Held:
    """One held-out vector: how it is made again, and its exact image; inside ``box`` where that is not None."""

    make: Callable[[], torch.Tensor]
    exact: torch.Tensor
    box: Box | None = None

    def error(self, factors: NormalFactors) -> float:
        """‖N x − Ñ x‖ / ‖N x‖, in the patch where there is a box."""
        x = self.make()
        return relative_error(self.exact, factors.apply(x) if self.box is None else factors.restrict(self.box).apply(x))


@dataclass
class HeldOut:
    """Vectors that no fit uses, with their exact images, by kind (``gaussian``, ``image``)."""

    held: dict[str, list[Held]] = field(default_factory=dict)

    @classmethod
    def make(cls, normal: CountedNormal, n: int, seed: int = 10_000, patch: int | None = None) -> HeldOut:
        """``n`` vectors of each kind, white noise and phantoms; with ``patch`` inside random patches of that edge."""
        kinds = {"gaussian": gaussian, "image": ellipsoids}
        held: dict[str, list[Held]] = {kind: [] for kind in kinds}
        with stage(n * len(kinds)) as done:
            for k, (i, kind) in enumerate(itertools.product(range(n), kinds)):
                done(k)
                held[kind].append(_hold(normal, kinds[kind], seed + i, patch))
        return cls(held)

    def samples(self, factors: NormalFactors) -> dict[str, np.ndarray]:
        """Relative errors per kind and vector."""
        with torch.no_grad():
            return {kind: np.array([h.error(factors) for h in held]) for kind, held in self.held.items()}

    def errors(self, factors: NormalFactors) -> dict[str, float]:
        """``error_<kind>`` (mean) and ``error_<kind>_sem`` (standard error of that mean)."""
        return summarise(self.samples(factors))


def _hold(normal: CountedNormal, vector: Callable[..., torch.Tensor], seed: int, patch: int | None) -> Held:
    if patch is None:
        make = partial(vector, normal.shape, normal.dtype, seed, normal.device)
        return Held(make, normal(make()))
    box = random_box(normal.shape, patch, seed)
    make = partial(vector, tuple(s.stop - s.start for s in box), normal.dtype, seed, normal.device)
    return Held(make, normal.patch(make(), box), box)


def random_box(shape: Shape, edge: int, seed: int) -> Box:
    """A box of ``edge`` voxels, fewer along short axes, somewhere in the volume."""
    rng = np.random.default_rng(seed)
    size = [min(edge, n) for n in shape]
    starts = [int(rng.integers(0, n - p + 1)) for n, p in zip(shape, size, strict=True)]
    return tuple(slice(a, a + p) for a, p in zip(starts, size, strict=True))  # type: ignore[return-value]


def summarise(samples: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean and standard error per kind."""
    out: dict[str, float] = {}
    for kind, values in samples.items():
        if values.size:
            out[f"error_{kind}"] = float(values.mean())
            out[f"error_{kind}_sem"] = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return out
