"""One comparison with a rival: what both take in processor time, in turn in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from napari_unroll.events import result_of
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.registry import get
from napari_unroll.physics.laws import norm
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One comparison: processor seconds of ours and of the ``rival``, and the ratio aimed at.

    ``difference`` is ‖ours − rival's‖ / ‖rival's‖, None where the rival computes less; ``close`` is what it may be.
    """

    name: str
    rival: str
    ours_s: float
    rival_s: float
    difference: float | None
    target: float | None = None
    close: float = 1e-6

    @property
    def ratio(self) -> float:
        """Ours / the rival's."""
        return self.ours_s / self.rival_s


def seconds(*runs: Callable[[], Any]) -> list[float]:
    """Processor seconds of each, the least of some calls, all in turn: a machine may be slower for a while."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, found in zip(runs, times, strict=True):
            begun = time.process_time()
            run()
            found.append(time.process_time() - begun)
    return [min(found) for found in times]


def against(
    name: str,
    rival: str,
    ours: Callable[[], torch.Tensor],
    other: Callable[[], Any],
    target: float | None = None,
    close: float = 1e-6,
) -> Row:
    """A row from two ways to compute the same."""
    found, expected = ours(), torch.as_tensor(other())
    difference = norm(found.reshape(expected.shape) - expected) / norm(expected)
    return Row(name, rival, *seconds(ours, other), difference, target, close)


def solved(scan: Scan, physics: VolumePhysics, name: str, **choices: Any) -> torch.Tensor:
    """The volume (z, y, x) of a method, its norm and all else included."""
    method = get(name)
    problem = Problem(scan=scan, physics=physics, y=measured(scan, "cpu"))
    return result_of(method.solve(problem, method.params(**choices)))
