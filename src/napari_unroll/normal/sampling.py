"""The fit from impulse responses: kernels by lag from spread voxels, weights from the response to a constant.

On large volumes kernels are kept only to the lags that patches need, columns are computed on boxes around their
voxels, and the weight comes from a coarser grid. Sees a physics and options; makes no events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from napari_unroll.events import Box
from napari_unroll.interrupt import shielded, stage
from napari_unroll.normal import impulse, smooth
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.far import far_weight
from napari_unroll.normal.probes import CountedNormal, coloured, spread_positions
from napari_unroll.physics.convolution import Circular, Shape

LARGEST_WHOLE = {"sum": 96**3, "other": 160**3}
"""Voxels up to which kernels hold all lags, along any edge of a thin volume too; beyond, SUPPORT lags."""
SUPPORT = {"sum": 64, "other": 96}
TRUNCATED = 1.3
"""A weight above this many times its median tells of rays that leave the detector; then coloured probes help."""


@dataclass
class ImpulseFit:
    """Accumulated columns and the constant's response: everything that a resumed fit needs."""

    normal: CountedNormal
    form: str
    circular: Circular
    support: Shape
    seed: int = 0
    coarse_weight: torch.Tensor | None = None
    constant: torch.Tensor | None = None
    done: int = 0
    coloured_pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    _solved: tuple[tuple[int, int], NormalFactors] | None = None

    def __post_init__(self) -> None:
        shape, device = self.normal.shape, self.normal.device
        self.estimate: impulse.LagAverage | smooth.SmoothLags
        if self.form == "sum":
            self.estimate = smooth.SmoothLags(shape, self.support, device)
        else:
            self.estimate = impulse.LagAverage(shape, self.support, self.circular, self.normal.dtype, device)

    @property
    def whole(self) -> bool:
        """Whether kernels hold all lags of the volume."""
        return all(s >= n for s, n in zip(self.support, self.normal.shape, strict=True))

    def prepare(self) -> None:
        """Apply N to a constant."""
        self.constant = self.normal(torch.ones_like(self.normal.zeros()))

    def take_weight(self, convolved: torch.Tensor) -> None:
        """Set d = (N 1) / (C 1) from C 1 of a fit on larger voxels, which is smooth: (z, y, x) on that grid.

        Its scale is set by the diagonal of N at the probes.
        """
        assert self.constant is not None
        fine = torch.nn.functional.interpolate(convolved[None, None], size=self.normal.shape, mode="trilinear")[0, 0]
        d = self.constant[0, 0] / fine.clamp_min(1e-3 * fine.max())
        typical = d.flatten()[:: max(1, d.nelement() // 1_000_000)].median()
        self.coarse_weight = d.div_(typical).clamp_min_(0)

    def step(self) -> None:
        """One more column."""
        j = spread_positions(self.normal.shape, self.done + 1, self.seed)[-1]
        box = impulse.window(self.normal.shape, self._windows(), j)
        column = self.normal.column(j, box)
        with shielded():  # the sums and their count belong together
            self.peaks.append(complex(column[tuple(int(p) - b.start for p, b in zip(j, box, strict=True))]).real)
            self.estimate.add(column, j)
            self.done += 1

    def _windows(self) -> Shape:
        axes = zip(self.support, self.normal.shape, self.circular, strict=True)
        return tuple(n if c else s for s, n, c in axes)  # type: ignore[return-value]

    def wants_coloured(self, asked: int | None) -> int:
        """How many coloured probes to take: as asked, else 4 where the object overhangs the detector."""
        if asked is not None:
            return asked
        d = self.solve().d_map
        return 4 if d.max() > TRUNCATED * np.median(d) else 0

    def add_coloured(self, n: int) -> None:
        """Apply N to ``n`` volumes with the spectrum of images."""
        with stage(n) as done:
            for i in range(len(self.coloured_pairs), n):
                done(i)
                w = self._coloured(i)
                self.coloured_pairs.append((w, self.normal(w)))

    def _coloured(self, i: int) -> torch.Tensor:
        return coloured(self.normal.shape, self.normal.dtype, 50_000 + self.seed + i, self.normal.device)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a fit in another process needs to go on; see :meth:`restore`."""
        assert self.constant is not None
        out = {"progress": torch.tensor([self.done, self.normal.calls]), "constant": self.constant}
        out["peaks"] = torch.tensor(self.peaks)
        out |= {f"lags.{name}": t for name, t in self.estimate.tensors().items()}
        out |= {f"coloured.{i}": exact for i, (_, exact) in enumerate(self.coloured_pairs)}
        return out if self.coarse_weight is None else out | {"coarse_weight": self.coarse_weight}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`tensors` gave for the same physics, form and seed."""
        self.done, self.normal.calls = (int(v) for v in tensors["progress"])
        self.constant, self.coarse_weight = tensors["constant"], tensors.get("coarse_weight")
        self.peaks = tensors["peaks"].tolist()
        positions = spread_positions(self.normal.shape, self.done, self.seed)
        self.estimate.restore({n[5:]: t for n, t in tensors.items() if n.startswith("lags.")}, positions)
        for i in range(sum(name.startswith("coloured.") for name in tensors)):
            self.coloured_pairs.append((self._coloured(i), tensors[f"coloured.{i}"]))

    def solve(self) -> NormalFactors:
        """The factors from what is known so far; solved once per state."""
        key = (self.done, len(self.coloured_pairs))
        if self._solved is None or self._solved[0] != key:
            self._solved = (key, self._solve())
        return self._solved[1]

    def latest(self) -> tuple[NormalFactors, int]:
        """The factors that were solved for last, or now where none were, and how many probes they are from."""
        factors = self._solved[1] if self._solved is not None else self.solve()
        return factors, self._solved[0][0] if self._solved is not None else self.done

    def _solve(self) -> NormalFactors:
        kernel = self._kernel()
        if self.coarse_weight is not None:
            return self._with_far(self._assemble(kernel, self._scale(kernel, self.coarse_weight) * self.coarse_weight))
        assert self.constant is not None
        d = impulse.weight_from_constant(self.constant, self._assemble(kernel, None))
        return self._with_far(self._assemble(kernel, d if not self.coloured_pairs else self._gain(kernel, d).mul_(d)))

    def _with_far(self, factors: NormalFactors) -> NormalFactors:
        """The same with what :mod:`napari_unroll.normal.far` needs to know, where the kernel is short."""
        if self.whole or self.constant is None:
            return factors
        bound = float(torch.linalg.vector_norm(self.constant, torch.inf))
        info = {"norm_bound": bound, "support": max(self.support)}
        return replace(factors, info=info | {"far_weight": far_weight(factors, self.constant)})

    def _gain(self, kernel: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        """What the coloured probes multiply d by."""
        return impulse.weight_gain(self._assemble(kernel, d), self.coloured_pairs, max(self.normal.shape) / 8)

    def _scale(self, kernel: torch.Tensor, d: torch.Tensor) -> float:
        """The factor of d that fits the diagonal of N at the probes best."""
        positions = spread_positions(self.normal.shape, self.done, self.seed)
        voxels: list[Box] = [tuple(slice(int(p), int(p) + 1) for p in j) for j in positions]  # type: ignore[misc]
        ones = torch.ones(self.done, 1, 1, 1, 1, dtype=self.normal.dtype, device=self.normal.device)
        guess = self._assemble(kernel, d).restrict(voxels).apply(ones).real.flatten()
        peaks = torch.tensor(self.peaks).to(guess)
        return float((peaks @ guess) / (guess @ guess).clamp_min(torch.finfo(guess.dtype).tiny))

    def convolved_constant(self) -> torch.Tensor:
        """C 1 (z, y, x), divided by the gain of coloured probes, so that N 1 over it is the weight."""
        assert self.constant is not None
        kernel = self._kernel()
        unweighted = self._assemble(kernel, None)
        convolved = unweighted.apply(torch.ones_like(self.normal.zeros()))[0, 0].real
        if not self.coloured_pairs:
            return convolved
        return convolved / self._gain(kernel, impulse.weight_from_constant(self.constant, unweighted))

    def _kernel(self) -> torch.Tensor:
        if isinstance(self.estimate, smooth.SmoothLags):
            return self.estimate.kernels()
        return impulse.nonnegative(self.estimate.kernel(), self.circular)

    def _assemble(self, kernel: torch.Tensor, d: torch.Tensor | None) -> NormalFactors:
        shape = self.normal.shape
        if self.form == "sum":
            return smooth.assemble(kernel, shape, d)
        return impulse.assemble(kernel, d, shape, self.circular, self.form, positive_kernel=True)


def default_support(shape: Shape, form: str, asked: int | None) -> Shape:
    """Lags to keep per axis: all of a small volume, what patches need of a large one, or as ``asked``."""
    kind = "sum" if form == "sum" else "other"
    limit = asked or (max(shape) if math.prod(shape) <= LARGEST_WHOLE[kind] else SUPPORT[kind])
    return tuple(min(n, limit) for n in shape)  # type: ignore[return-value]
