"""One pass of a prior over a volume as every reconstruction makes it: in a sliding window, in the plan's precision."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial

import torch

from napari_unroll.events import Box, Event
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.patchwise import Stage, batch_size, grid_of, halo_of, sliding_window
from napari_unroll.methods.problem import Problem
from napari_unroll.methods.streaming import lane_between, through
from napari_unroll.patches.context import cut

MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-3,))
"""Axes that are reversed in each pass of the self-ensemble; the first is the patch as it is."""
LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}

Clean = Callable[[torch.Tensor], torch.Tensor]
"""What a prior makes of patches (batch, 1, z, y, x)."""
Distance = Callable[[Box], float | None]
"""How far the patch in a box is from the data, None where that is not known."""


def unknown(box: Box) -> None:
    """No distance from the data is known."""


@torch.no_grad()
def clean(prior: Clean, patch: torch.Tensor, precision: str, self_ensemble: bool) -> torch.Tensor:
    """The prior's answer to patches (batch, 1, z, y, x), or the mean of what it makes of their mirror images.

    The self-ensemble of Timofte et al. 2016, doi:10.1109/CVPR.2016.206, with mirrors only.
    """
    low = LOW.get(precision)
    total = torch.zeros_like(patch)
    mirrors = MIRRORS if self_ensemble else MIRRORS[:1]
    with torch.autocast(patch.device.type, low, enabled=low is not None):
        for axes in mirrors:
            total += prior(patch.flip(axes)).flip(axes)
    return total / len(mirrors)


def prior_pass(
    problem: Problem,
    given: torch.Tensor,
    prior: Clean,
    stage: Stage,
    scale: float,
    distance: Distance = unknown,
    done: list[Patch] | None = None,
    reach: int = 0,
) -> Generator[Event, None, torch.Tensor]:
    """``prior`` over the volume ``given`` (1, 1, z, y, x), patch by patch on its own device; returns what it makes of it.

    ``scale`` turns values into the scan's units for events, ``distance`` says how far a patch is from the data; what
    is in ``done`` is not made again (see ``sliding_window``). ``reach``: how far the prior sees, 0 where that is not known.
    """
    there = problem.network_device
    lane = lane_between(given.device, there)

    def work(batches: list[list[Box]]) -> Iterator[tuple[list[Box], list[Patch]]]:
        for boxes, cleaned in through(lane, batches, partial(cut, given), prior):
            yield boxes, [Patch(b, v, distance(b)) for b, v in zip(boxes, cleaned, strict=True)]

    grid, n, halo = grid_of(problem), batch_size(there), halo_of(problem, reach)
    return (yield from sliding_window(grid, given, work, stage, scale, n, done, halo, problem))


def relative_size(gradient: torch.Tensor, adjoint: torch.Tensor, box: Box) -> float:
    """‖P ∇f‖ / ‖P Aᴴy‖: how far the patch in ``box`` is from the data."""
    return _norm(gradient[(..., *box)]) / max(_norm(adjoint[(..., *box)]), 1e-30)


def _norm(x: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(x))
