"""The one loop that cuts a volume into patches, does something to each, and blends what comes: sliding-window inference.

Whoever uses it says what is done to a batch of boxes; events and blending are here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch

from napari_unroll.events import Box, Event, PatchDone, Progress
from napari_unroll.methods.problem import Problem, as_values
from napari_unroll.patches.blend import Blender
from napari_unroll.patches.grid import PatchGrid


@dataclass(frozen=True)
class Patch:
    """What became of a patch: ``values`` (1, z, y, x), and how far it is from the data where that is known."""

    box: Box
    values: torch.Tensor
    consistency: float | None = None


@dataclass(frozen=True)
class Stage:
    """Which part of a run one sliding window is: its name, and the steps before it and in all windows of the run."""

    text: str
    first: int = 0
    n_steps: int = 0


def grid_of(problem: Problem) -> PatchGrid:
    """The patches of a problem."""
    return PatchGrid(problem.shape, problem.patch_size, problem.overlap)


def halo_of(problem: Problem, reach: int) -> int:
    """The outer voxels of a patch that a network of this ``reach`` answers otherwise than it would in the whole volume.

    Where neighbours share enough to do without them; 0 where not.
    """
    return reach if 2 * reach <= problem.overlap else 0


def batch_size(device: torch.device) -> int:
    """Patches per pass of a network: torch takes slow convolutions for one small volume on the CPU, not for two."""
    return 2 if device.type == "cpu" else 1


def sliding_window(
    grid: PatchGrid,
    like: torch.Tensor,
    apply: Callable[[list[Box]], Sequence[Patch]],
    stage: Stage,
    scale: float = 1.0,
    n_batch: int | None = None,
    done: list[Patch] | None = None,
    halo: int = 0,
) -> Generator[Event, None, torch.Tensor]:
    """The patches of ``grid`` through ``apply``, blended; returns a volume (1, 1, z, y, x) of the type of ``like``.

    ``scale`` turns values into the scan's units for events. What is in ``done`` is not made again; new patches are appended
    to it. The outer ``halo`` voxels of a patch count only where no other is.
    """
    blender = Blender(grid.shape, like.dtype, grid.overlap, like.device, halo)
    for patch in done or ():
        blender.add(patch.box, patch.values)
    known = [patch.box for patch in done or ()]
    n_done = len(known)
    for boxes in grid.batches(n_batch or batch_size(like.device), known):
        for patch in apply(boxes):
            blender.add(patch.box, patch.values)
            if done is not None:
                done.append(patch)
            yield PatchDone(patch.box, as_values(blender.values(patch.box) * scale), patch.consistency)
        n_done += len(boxes)
        yield Progress(stage.first + n_done, stage.n_steps or len(grid), stage.text)
    return blender.values()[None, None]
