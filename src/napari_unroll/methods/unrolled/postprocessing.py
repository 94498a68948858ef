"""The post-processing baseline: one pass of a network over the quick reconstruction, patch by patch."""

from __future__ import annotations

from collections.abc import Generator

import torch

from napari_unroll.events import Event, PatchDone, Progress
from napari_unroll.methods.problem import Method, Problem, as_values
from napari_unroll.methods.unrolled.inference import NetworkParams, batch_size, chosen, denoise, load, memory, over
from napari_unroll.methods.unrolled.network import UnrolledPGD
from napari_unroll.methods.unrolled.scale import intensity_scale
from napari_unroll.methods.unrolled.start import first_estimate
from napari_unroll.patches.blend import Blender
from napari_unroll.patches.context import cut
from napari_unroll.patches.grid import PatchGrid


def solve(problem: Problem, params: NetworkParams) -> Generator[Event, None, torch.Tensor]:
    """One pass of a network over FDK or the zero-filled image, patch by patch."""
    network = load(problem, params.weights, "post-processing")
    start = yield from first_estimate(problem, network.config)
    return (yield from postprocess(problem, params, network, start))


def postprocess(
    problem: Problem, params: NetworkParams, network: UnrolledPGD, start: torch.Tensor
) -> Generator[Event, None, torch.Tensor]:
    """The pass with a given network over the start (1, 1, z, y, x); returns the volume (z, y, x)."""
    scale = intensity_scale(start)
    grid = PatchGrid(problem.shape, problem.patch_size, problem.overlap)
    blender = Blender(problem.shape, start.dtype, problem.overlap, start.device)
    done = 0
    for boxes in grid.batches(batch_size(problem)):
        cleaned = denoise(problem, network, cut(start, boxes) / scale, 0, params.self_ensemble)
        for box, values in zip(boxes, cleaned, strict=True):
            blender.add(box, values)
            yield PatchDone(box, as_values(blender.values(box) * scale))
        done += len(boxes)
        yield Progress(done, len(grid), "patches")
    return over(blender, start / scale)[0, 0] * scale


POST_PROCESSING = Method(
    name="drunet",
    title="Post-processing network",
    summary="One pass of a DRUNet over FDK or the zero-filled image; fast, but blind to the measurements.",
    source="Jin et al., Deep Convolutional Neural Network for Inverse Problems in Imaging (2017), doi:10.1109/TIP.2017.2713099",
    params=NetworkParams,
    solve=solve,
    needs_weights=True,
    patchwise=True,
    iterative=False,
    memory=memory,
    find_weights=lambda modality, params: chosen(modality, params.weights, "post-processing"),
)
