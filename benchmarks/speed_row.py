"""One comparison with a rival: what both take in processor time, in turn in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from napari_unroll.physics.laws import norm

REPEATS = 3


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


def seconds(run: Callable[[], Any]) -> float:
    """Processor seconds, the least of some runs."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


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
    return Row(name, rival, seconds(ours), seconds(other), difference, target, close)
