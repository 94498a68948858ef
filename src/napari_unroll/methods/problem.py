"""What every method is given, and what a method is.

A method is one parameter record and one generator ``solve(problem, params)`` that yields events and
*returns* the volume, a tensor (z, y, x) real or complex, on any device. It knows neither who listens nor
how the problem was made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from napari_unroll.errors import Cancelled
from napari_unroll.events import Event, Progress, Stop
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.laws import power_iteration
from napari_unroll.scan.scan import Modality, Scan

NORM_STEPS = 20


class MethodParams(BaseModel):
    """Base of the parameter records: frozen, no unknown fields. Field descriptions become tooltips and help."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reconstruction problem on one device.

    ``physics`` is a deepinv LinearPhysics (see ``physics.build``); ``y`` its measurements with a batch axis;
    ``normal`` the fitted approximation of AᴴA or None; ``patch_size`` (z, y, x) and ``overlap`` (voxels) for
    patchwise work; ``stop`` the token that the method must look at between its steps. ``state`` survives an
    attempt: after out-of-memory the pipeline calls ``solve`` again with smaller patches and the same ``state``,
    so a method that keeps its finished work there (say ``state["x"]``, ``state["iteration"]``) goes on from it.
    """

    scan: Scan
    physics: Any
    y: torch.Tensor
    normal: NormalFactors | None = None
    patch_size: tuple[int, int, int] = (48, 48, 48)
    overlap: int = 8
    precision: str = "float32"
    stop: Stop = field(default_factory=Stop)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.y.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume's shape (z, y, x)."""
        return self.scan.grid.shape

    @cached_property
    def adjoint(self) -> torch.Tensor:
        """Aᴴy, (1, 1, z, y, x)."""
        return self.physics.A_adjoint(self.y)

    def find_norm(self) -> Generator[Event, None, float]:
        """Largest eigenvalue of AᴴA by power iteration (seeded), on the approximation where one is fitted.

        ``norm = yield from problem.find_norm()``. Kept in ``state``; asked to finish, it returns the estimate that it has.
        """
        if self.normal is not None:
            return self.normal.norm_squared
        if "norm_squared" not in self.state:
            estimate = 0.0
            for k, estimate in enumerate(power_iteration(self.physics, NORM_STEPS), 1):
                yield Progress(k, NORM_STEPS, "measuring the operator's norm")
                if self.asked_to_finish():
                    return estimate
            self.state["norm_squared"] = estimate
        return float(self.state["norm_squared"])

    def asked_to_finish(self) -> bool:
        """Look at the stop token between steps: raises Cancelled, else says whether to end with what there is."""
        if self.stop.cancelled:
            raise Cancelled("The reconstruction was cancelled; nothing was kept.")
        return self.stop.finish_now

    def residual(self, x: torch.Tensor) -> float:
        """‖A x − y‖ / ‖y‖ for x (1, 1, z, y, x)."""
        return float(torch.linalg.vector_norm(self.physics.A(x) - self.y) / torch.linalg.vector_norm(self.y))


def measured(scan: Scan, device: torch.device | str) -> torch.Tensor:
    """The measurements on ``device`` with a batch axis, and a channel axis for CT."""
    y = torch.from_numpy(np.ascontiguousarray(scan.measurements)).to(device)
    return y[None] if scan.modality == "mri" else y[None, None]


def as_values(x: torch.Tensor) -> np.ndarray:
    """A copy of x (..., z, y, x) as the array (z, y, x) that events carry: float32 or complex64."""
    volume = x.detach().reshape(x.shape[-3:])
    return volume.to("cpu", torch.complex64 if x.is_complex() else torch.float32, copy=True).numpy()


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a method's network comes to be: its architecture, the training options that suit it, and its training task.

    ``network`` is a NetworkConfig, ``options`` are TrainOptions that differ from their defaults, both by modality. ``task``:
    "patch" trains on local problems in their context, "denoise" on volumes with noise.
    """

    network: Callable[[Modality], MethodParams]
    options: Callable[[Modality], Mapping[str, Any]]
    task: Literal["patch", "denoise"] = "patch"


class Solve(Protocol):
    """The signature of every method's generator."""

    def __call__(self, problem: Problem, params: Any, /) -> Generator[Event, None, torch.Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """An entry of the registry: name, what it needs, its record and its generator.

    ``memory`` estimates peak bytes for (volume shape, patch size, params) beyond scan and volume; the plan uses it.
    ``needs_normal`` says from the params whether a fitted normal operator is needed; None means never.
    ``find_weights`` is the checkpoint that (modality, params) would use, a ``weights.Weights``; it raises WeightsError where
    there is none. ``learning`` says how its network is trained, None where nothing is; ``network_of`` names the methods whose
    trained networks it uses, the preferred first, where that is not its own.
    """

    name: str
    title: str
    summary: str
    source: str
    params: type[MethodParams]
    solve: Solve
    modalities: frozenset[Modality] = frozenset({"ct", "mri"})
    needs_weights: bool = False
    patchwise: bool = False
    iterative: bool = True
    memory: Callable[[tuple[int, int, int], tuple[int, int, int], Any], int] | None = None
    needs_normal: Callable[[Any], bool] | None = None
    find_weights: Callable[[Modality, Any], Any] | None = None
    learning: Learning | None = None
    network_of: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The methods whose trained networks it can use."""
        return self.network_of or (self.name,)
