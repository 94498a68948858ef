"""The published recipe, for comparison: Adam on fresh Gaussian vectors, circular kernel, one exact N per step.

Efficient Unrolled Networks (arXiv 2601.02141, eq. 17–18): minimise E‖N w − Ñ w‖² over unit-variance w, which is
‖N − Ñ‖²_F. The kernel's scale is set from the first probe, since from λ = 1 Adam spends its steps on the scale alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from napari_unroll.interrupt import shielded
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.probes import CountedNormal, gaussian
from napari_unroll.physics.convolution import AXES

CIRCULAR = (True, True, True)


@dataclass
class PaperFit:
    """D·C (``form`` "dc") or Dᴴ·C·D ("dcd") under Adam; the learning rate falls to zero as a cosine."""

    normal: CountedNormal
    form: str
    n_steps: int
    learning_rate: float
    seed: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        shape, device = self.normal.shape, self.normal.device
        self._d = torch.ones(shape, dtype=self.normal.dtype, device=device, requires_grad=True)
        cells = shape if self.normal.dtype.is_complex else (*shape[:2], shape[2] // 2 + 1)
        self._spectrum = torch.ones(cells, device=device, requires_grad=True)
        self._scale = 0.0
        self._adam = torch.optim.Adam([self._d, self._spectrum], lr=self.learning_rate)

    def step(self) -> None:
        """One Gaussian vector, one exact N, one step of Adam."""
        w = gaussian(self.normal.shape, self.normal.dtype, 1_000_000 * (self.seed + 1) + self.done, self.normal.device)
        exact = self.normal(w)
        self._scale = self._scale or float(torch.linalg.vector_norm(exact) / torch.linalg.vector_norm(w))
        self._adam.zero_grad()
        loss = (self._apply(w) - exact / self._scale).abs().square().mean()
        torch.autograd.backward(loss)
        self._adam.param_groups[0]["lr"] = 0.5 * self.learning_rate * (1 + math.cos(math.pi * self.done / self.n_steps))
        with shielded():  # the moments and their count belong together
            self._adam.step()
            self.done += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a fit in another process needs to go on; see :meth:`restore`."""
        out = {"progress": torch.tensor([self.done, self.normal.calls]), "scale": torch.tensor(self._scale)}
        out |= {"d": self._d.detach(), "spectrum": self._spectrum.detach()}
        moments = {f"adam.{i}.{name}": t for i, s in self._adam.state_dict()["state"].items() for name, t in s.items()}
        return out | moments

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`tensors` gave for the same physics, form and seed."""
        self.done, self.normal.calls = (int(v) for v in tensors["progress"])
        self._scale = float(tensors["scale"])
        with torch.no_grad():
            self._d.copy_(tensors["d"])
            self._spectrum.copy_(tensors["spectrum"])
        known = self._adam.state_dict()
        for name, t in tensors.items():
            if name.startswith("adam."):
                _, i, what = name.split(".")
                known["state"].setdefault(int(i), {})[what] = t
        self._adam.load_state_dict(known)

    def _apply(self, w: torch.Tensor) -> torch.Tensor:
        v = self._d * w if self.form == "dcd" else w
        if w.is_complex():
            v = torch.fft.ifftn(self._spectrum * torch.fft.fftn(v, dim=AXES), dim=AXES)
        else:
            v = torch.fft.irfftn(self._spectrum * torch.fft.rfftn(v, dim=AXES), s=w.shape[-3:], dim=AXES)
        return self._d.conj() * v

    def latest(self) -> tuple[NormalFactors, int]:
        """The present factors, which cost nothing to have, and how many steps were made."""
        return self.solve(), self.done

    def solve(self) -> NormalFactors:
        """The present factors."""
        shape = self.normal.shape
        spectrum = self._spectrum.detach() * self._scale
        if self.normal.dtype.is_complex:
            kernel = torch.fft.ifftn(spectrum, dim=AXES)[None]
        else:
            kernel = torch.fft.irfftn(spectrum, s=shape, dim=AXES)[None]
        d = self._d.detach().clone()[None]
        right = d if self.form == "dcd" else None
        return NormalFactors(kernel=kernel, left=d, right=right, shape=shape, circular=CIRCULAR, form=self.form)
