"""Nesterov's momentum between proximal gradient steps, with restarts. Sees tensors only."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_unroll.physics.laws import inner, norm


@dataclass
class Momentum:
    """Iterate x, extrapolated point z, from which the next step is taken, and momentum t.

    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm" (2009), doi:10.1137/080716542, eq. 4.1–4.3, with
    the restart of O'Donoghue and Candès (2015), doi:10.1007/s10208-013-9150-3, eq. 12 (gradient scheme).
    """

    x: torch.Tensor
    z: torch.Tensor
    t: float = 1.0

    def move(self, x: torch.Tensor, is_jerky: bool = False) -> float:
        """Take the new iterate; returns ‖change‖ / ‖x‖. Momentum restarts when it points uphill.

        Steps that are ``is_jerky``, each with a gradient of its own group of views, also go to and fro: of their change only that
        part counts which goes on as the last one did, √⟨change, last change⟩, as soon as there is momentum.
        """
        change = x - self.x
        uphill, size = float(inner(self.z - x, change).real), norm(change)
        momentum = self._momentum
        if is_jerky and momentum > 0:
            size = max(0.0, (uphill + size**2) / momentum) ** 0.5  # z − x was the last change times the momentum
        if uphill > 0:
            self.t = 1.0
        t = 0.5 * (1 + (1 + 4 * self.t**2) ** 0.5)
        self.z = x + ((self.t - 1) / t) * change
        self.x, self.t = x, t
        return size / max(norm(x), 1e-300)

    @property
    def _momentum(self) -> float:
        """Of the last change in z: (t' − 1) / t, with t' before t; nothing at the start, where t is one."""
        return max(0.0, ((self.t**2 - self.t) ** 0.5 - 1) / self.t)
