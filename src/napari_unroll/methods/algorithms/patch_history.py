"""What every patch went through while the fixed point of a volume was looked for: which still move, which may be left out.

A patch whose input is nearly the one that the network saw last keeps its answer. The data step couples patches, so what counts
is the input, not whether the patch seemed to be at rest: a settled patch is taken up again when its surroundings move it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
import torch

from napari_unroll.events import Box, Event
from napari_unroll.methods.journal import Patch
from napari_unroll.patches.context import cut
from napari_unroll.patches.grid import PatchGrid

Pass = Callable[..., Generator[Event, None, torch.Tensor]]
SLACK = 0.25
"""Part of the latest residual that the input of a settled patch may have moved."""


class PatchHistory:
    """Of every patch of ``grid``, as arrays (z, y, x) of it: evaluations of the network, and how far the patch still moves.

    ``residuals`` are root mean squares of f(z) − z over the part of the volume that is the patch's own, relative to that of the
    whole f(z): where all are below the tolerance, so is the whole. Where it ``keeps`` answers, a patch is settled while the root
    mean square of what its input changed by since its last evaluation is below ``bound`` times that of the whole input. Where
    Lip(D) ≤ L its kept answer is then wrong by L times that at most.
    """

    def __init__(self, grid: PatchGrid, keeps: bool = False) -> None:
        self.grid, self.keeps, self.bound = grid, keeps, 0.0
        shape = tuple(len(starts) for starts in grid.starts)
        self.evaluations = np.zeros(shape, np.int32)
        self.residuals = np.full(shape, np.nan, np.float32)
        self._seen: dict[int, tuple[torch.Tensor, Patch]] = {}
        self._n_left_out = 0

    @property
    def is_whole(self) -> bool:
        """Whether the last pass of the network was over all patches."""
        return self._n_left_out == 0

    def watch(self, given: torch.Tensor, over: Pass) -> Generator[Event, None, torch.Tensor]:
        """A pass ``over`` the patches of ``given`` (1, 1, z, y, x), without the settled ones where it ``keeps`` answers."""
        if not self.keeps:
            cleaned = yield from over()
            self.evaluations += 1
            return cleaned
        with torch.no_grad():
            done = self._settled(given) if self.bound else []
        n = self._n_left_out = len(done)
        cleaned = yield from over(done=done)
        with torch.no_grad():
            self._note(given, done[n:])
        return cleaned

    def _settled(self, given: torch.Tensor) -> list[Patch]:
        """The kept answers of patches whose input hardly changed."""
        most = self.bound * _rms(given)
        return [patch for last, patch in self._seen.values() if _rms(cut(given, [patch.box]) - last) < most]

    def _note(self, given: torch.Tensor, patches: list[Patch]) -> None:
        """The network has seen these patches of ``given``."""
        index = {_corner(box): i for i, box in enumerate(self.grid.boxes)}
        for patch in patches:
            i = index[_corner(patch.box)]
            self.evaluations.flat[i] += 1
            self._seen[i] = cut(given, [patch.box]).clone(), patch

    def moved(self, point: torch.Tensor, value: torch.Tensor) -> None:
        """``value`` (1, 1, z, y, x) is f(``point``)."""
        step, size = value - point, _rms(value)
        for i, core in enumerate(self.grid.cores):
            self.residuals.flat[i] = _rms(step[(..., *core)]) / max(size, 1e-30)

    @property
    def text(self) -> str:
        """In words; empty for a single patch."""
        if len(self.grid) == 1:
            return ""
        fewest, most = self.evaluations.min(), self.evaluations.max()
        each = f"{most}" if fewest == most else f"{fewest} to {most}"
        worst = np.unravel_index(int(np.nan_to_num(self.residuals).argmax()), self.residuals.shape)
        where = ", ".join(str(int(i) + 1) for i in worst)
        return (
            f"The network saw each of {len(self.grid)} patches {each} times; the largest residual of a patch is "
            f"{self.residuals[worst]:.1e}, in patch ({where}) along z, y, x."
        )


def _corner(box: Box) -> tuple[int, ...]:
    return tuple(b.start for b in box)


def _rms(x: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(x)) / max(1, x.numel()) ** 0.5
