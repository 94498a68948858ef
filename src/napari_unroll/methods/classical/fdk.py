"""Filtered back-projection of cone beams as a method; on parallel beams it is ``fbp``, which shares record and solve.

The arithmetic and its sources are in ``physics.fdk``; this file only offers it by name.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import torch
from pydantic import Field

from napari_unroll.events import Event, IterationDone
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method, MethodParams, Problem, as_values


class FDKParams(MethodParams):
    """Choices of filtered back-projection."""

    window: Literal["ram-lak", "shepp-logan", "hann"] = Field(
        default="ram-lak", description="Window on the ramp filter; hann is smoothest and suits noisy projections."
    )
    positivity: bool = Field(default=False, description="Set negative attenuation to zero.")


def solve(problem: Problem, params: FDKParams) -> Generator[Event, None, torch.Tensor]:
    """Volume (z, y, x) in 1/mm from one filtered back-projection."""
    x = yield from problem.find_quick(window=params.window)
    if params.positivity:
        x = x.clamp(min=0)
    yield IterationDone(1, 1, values=as_values(x))
    return x[0, 0]


FDK = Method(
    name="fdk",
    title="FDK",
    summary="Filtered back-projection of cone beams: instant and linear; few views leave streaks.",
    source="Feldkamp, Davis, Kress 1984, doi:10.1364/JOSAA.1.000612",
    params=FDKParams,
    solve=solve,
    memory=holding(volumes=1.8, measurements=0.4),
    modalities=frozenset({"ct"}),
    iterative=False,
)
