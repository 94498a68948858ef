"""The measured image on the grid to be reconstructed, and nothing more: what every method for images is compared with."""

from __future__ import annotations

from collections.abc import Generator

import torch

from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_values


class InterpolationParams(MethodParams):
    """Nothing to choose."""


def solve(problem: Problem, params: InterpolationParams) -> Generator[Event, None, torch.Tensor]:
    """Image (z, y, x): bicubic in (y, x), linear along z; the blurred image as it is where nothing was downsampled."""
    x = yield from problem.find_quick()
    yield IterationDone(1, 1, values=as_values(x))
    return x[0, 0]


INTERPOLATION = Method(
    name="interpolation",
    title="Bicubic interpolation",
    summary="The measured image on the finer grid: instant; blur and noise stay.",
    source="Keys 1981, doi:10.1109/TASSP.1981.1163711",
    params=InterpolationParams,
    solve=solve,
    memory=holding(volumes=2),
    modalities=frozenset({"image"}),
    iterative=False,
)
