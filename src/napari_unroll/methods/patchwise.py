"""The one loop that cuts a volume into patches, does something to each, and blends what comes: sliding-window inference.

Whoever uses it says what is done to batches of boxes; events and blending are here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from napari_unroll.events import Box, Event, PatchDone, Progress
from napari_unroll.methods.journal import Journal, Patch
from napari_unroll.methods.problem import Problem, as_values
from napari_unroll.patches.blend import Blender
from napari_unroll.patches.grid import PatchGrid

Work = Callable[[list[list[Box]]], Iterator[tuple[list[Box], Sequence[Patch]]]]
"""Makes patches of batches of boxes, in order; ``partial(in_turn, apply=…)`` where each batch stands for itself (see ``team``)."""
WINDOW = "window"
"""Where the problem's state holds a pass under way."""


@dataclass(frozen=True)
class Stage:
    """Which part of a run one sliding window is: its name, and the steps before it and in all windows of the run."""

    text: str
    first: int = 0
    n_steps: int = 0


@dataclass
class Window:
    """A pass under way, which outlives an attempt that runs out of memory: its name, what is blended, and its boxes."""

    name: str
    blender: Blender
    taken: dict[tuple[tuple[int, int], ...], Box] = field(default_factory=dict)

    @property
    def boxes(self) -> list[Box]:
        """Those that are in it."""
        return list(self.taken.values())

    def add(self, patch: Patch) -> None:
        """Blend a patch that is not in it yet."""
        key = tuple((b.start, b.stop) for b in patch.box)
        if key not in self.taken:
            self.blender.add(patch.box, patch.values)
            self.taken[key] = patch.box


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
    work: Work,
    stage: Stage,
    scale: float = 1.0,
    n_batch: int | None = None,
    done: list[Patch] | None = None,
    halo: int = 0,
    problem: Problem | None = None,
) -> Generator[Event, None, torch.Tensor]:
    """The patches of ``grid``, made by ``work`` and blended; returns a volume (1, 1, z, y, x) of the type of ``like``.

    ``scale`` turns values into the scan's units for events. What is in ``done`` is not made again; new patches are appended
    to it. Nor is what an earlier attempt of this pass has finished, which ``problem`` holds in its state or its journal.
    The outer ``halo`` voxels of a patch count only where no other is.
    """
    state: dict[str, Any] = {} if problem is None else problem.state
    journal = Journal() if problem is None else problem.journal
    window = _window(state, grid, like, stage, halo)
    for patch in done or ():
        window.add(patch)
    earlier = journal.begin(stage.text)
    state[WINDOW] = window
    for finished in earlier:
        yield from _take(window, finished, scale, done)
    n_done = len(grid) - sum(map(len, grid.batches(1, window.boxes)))
    for boxes, patches in work(grid.batches(n_batch or batch_size(like.device), window.boxes)):
        journal.add(patches)
        yield from _take(window, patches, scale, done)
        n_done += len(boxes)
        yield Progress(stage.first + n_done, stage.n_steps or len(grid), stage.text)
    del state[WINDOW]
    return window.blender.values()[None, None]


def _window(state: dict[str, Any], grid: PatchGrid, like: torch.Tensor, stage: Stage, halo: int) -> Window:
    """That of an earlier attempt, or a new one."""
    kept: Window | None = state.get(WINDOW)
    if kept is not None and kept.name == stage.text:
        return kept
    return Window(stage.text, Blender(grid.shape, like.dtype, grid.overlap, like.device, halo))


def _take(window: Window, patches: Sequence[Patch], scale: float, done: list[Patch] | None) -> Iterator[Event]:
    """Patches that are done are blended and shown."""
    for patch in patches:
        window.add(patch)
        if done is not None:
            done.append(patch)
        yield PatchDone(patch.box, as_values(window.blender.values(patch.box) * scale), patch.consistency)
