"""Zero-filled inverse Fourier transform, coils combined: what a scanner shows without any solver.

The coils' images x_c become one by their sensitivity maps, Σ_c conj(S_c) x_c, which keeps phase and needs maps; or by
the root of their sum of squares, (Σ_c |x_c|²)^½, which needs none, is brighter near the coils, and is never negative, so
that noise lifts the dark parts (Roemer et al. 1990). Along a trajectory both are density-compensated (gridding). Knows
the physics only through the quick reconstruction and ``rss``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_values


class ZeroFilledParams(MethodParams):
    """Choices of the zero-filled image."""

    combine: Literal["sensitivities", "rss"] = Field(
        default="sensitivities",
        description="How coils become one image: by their sensitivity maps (complex), or by the root of their sum of "
        "squares, which needs no maps and has no phase.",
    )


def solve(problem: Problem, params: ZeroFilledParams) -> Generator[Event, None, torch.Tensor]:
    """Complex image (z, y, x) by the inverse Fourier transform.

    Coils are combined by their maps, density-compensated along a trajectory, or by their root sum of squares with zero phase.
    """
    if params.combine == "sensitivities":
        x = yield from problem.find_quick()
    else:
        x = problem.physics.rss(problem.y).to(problem.y.dtype)
    x = x.reshape(problem.shape)
    yield IterationDone(1, 1, values=as_values(x))
    return x


ZERO_FILLED = Method(
    name="zero-filled",
    title="Zero-filled",
    summary="Inverse Fourier transform with the missing samples as zeros: instant; undersampling leaves aliasing.",
    source="Roemer et al. 1990, doi:10.1002/mrm.1910160203 (combination of coils)",
    params=ZeroFilledParams,
    solve=solve,
    memory=holding(volumes=1),
    modalities=frozenset({"mri"}),
    iterative=False,
)
