"""Ordered subsets: the views of an X-ray scan in groups, of which a gradient step looks at one and takes it for all.

AᴴA is nearly the sum of as many times that of a group whose views go all round, so a step costs a part of the projections and
goes nearly as far. Hudson and Larkin, "Accelerated image reconstruction using ordered subsets of projection data" (1994),
doi:10.1109/42.363108; with momentum: Kim, Ramani, Fessler (2015), doi:10.1109/TMI.2014.2350962.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from napari_unroll.methods.problem import Problem
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import GOLDEN_ANGLE_RAD

Subsets = Annotated[int, Field(ge=1, le=1000)] | Literal["auto"]
"""How many groups, or ``auto``."""
LEAST_VIEWS = 10
"""Of a group for ``auto``: the steps then end within 0.4 % of where those with all views do, with five views within about 1 %;
with two they diverge (docs/decisions/ordered_subsets.md)."""
MOST_SUBSETS = 10
"""For ``auto``."""


def n_subsets(scan: Scan, asked: int | str = "auto", least_views: int = LEAST_VIEWS) -> int:
    """How many groups; 1 where a scan has no views. ``auto``: of ``least_views`` views at least."""
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return 1
    n_views = scan.geometry.n_views
    return min(MOST_SUBSETS, max(1, n_views // least_views)) if isinstance(asked, str) else min(asked, n_views)


def subsets(problem: Problem, n: int) -> Sequence[Problem]:
    """The problem with every n-th view, n of them, in an order in which neighbours are far apart.

    AᴴA of the whole is nearly n times that of each; the problem itself is the one group where n is 1.
    """
    if n == 1:
        return [problem]
    order = sorted(range(n), key=lambda i: i * GOLDEN_ANGLE_RAD % math.pi)
    parts = groups(problem.physics, problem.y, n)
    return [replace(problem, physics=parts[i][0], y=parts[i][1]) for i in order]


def groups(physics: VolumePhysics, y: torch.Tensor, n: int) -> list[tuple[VolumePhysics, torch.Tensor]]:
    """A and y of every n-th view, n times; all of both where the operator has no views."""
    if not isinstance(physics, XRay):
        return [(physics, y)]
    n_views = physics.geometry.n_views
    n = min(n, n_views)
    return [(physics.of_views(range(first, n_views, n)), y[:, :, first::n]) for first in range(n)]
