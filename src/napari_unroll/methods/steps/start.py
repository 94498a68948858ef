"""The first estimate x_0 of an unrolled network: FDK or the zero-filled image, or a few steps of total variation.

Few unrolled iterations cannot undo severe undersampling; a short FISTA run takes the volume most of the way for the price of a
few projections, and the network spends its iterations on what total variation gets wrong. One function, used by
training and reconstruction alike.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch

from napari_unroll.events import Event, IterationDone, Progress, map_events
from napari_unroll.methods.classical import tv_fista
from napari_unroll.methods.classical.tv_objective import DEFAULT_STRENGTH, auto_strength
from napari_unroll.methods.problem import Problem
from napari_unroll.methods.subsets import n_subsets
from napari_unroll.scan.scan import Scan

LEAST_VIEWS = 5
"""Of a group of ordered subsets: what they leave of the start is far below what networks change of it."""

N_INNER = 3
"""Dual steps per step, warm-started: with 8, as total variation itself takes, the network's result is 0.01 dB better at most."""


def first_estimate(
    problem: Problem, n_iterations: int, follows_noise: bool = False
) -> Generator[Event, None, torch.Tensor]:
    """x_0 (1, 1, z, y, x): FDK or the zero-filled image, or so many FISTA steps of total variation, shown while they come.

    Strength and number of steps are those of training, whatever the noise, unless the network ``follows_noise``.
    """
    if n_iterations == 0:
        return (yield from problem.find_quick())
    inner = replace(problem, state=problem.state.setdefault("start", {}))
    strength = auto_strength(problem.scan) if follows_noise else DEFAULT_STRENGTH[problem.scan.modality]
    params = tv_fista.TVParams(
        strength=strength,
        n_iterations=n_iterations,
        tolerance=0.0,
        n_inner=N_INNER,
        subsets=start_subsets(problem.scan),
    )
    x = yield from map_events(tv_fista.solve(inner, params), _as_first_estimate)
    return x[None, None]


def start_subsets(scan: Scan) -> int:
    """Groups of views of which every one of those steps looks at one."""
    return n_subsets(scan, least_views=LEAST_VIEWS)


def _as_first_estimate(event: Event) -> Event | None:
    """Iterates are shown while they come; the iterations are those of the first estimate only."""
    if isinstance(event, IterationDone) and event.values is None:
        return Progress(event.iteration, event.n_iterations, "first estimate by total variation")
    return event
