"""What every method is given, and what a method is.

A method is one parameter record and one generator ``solve(problem, params)`` that yields events and
*returns* the volume, a tensor (z, y, x) real or complex, on any device. It knows neither who listens nor
how the problem was made, and it need not look whether it shall stop: every call of torch and every projection does
(see ``interrupt``). What it is to return when it is stopped, it keeps in the problem's ``estimate``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch

from napari_unroll.errors import FinishNow, ScanError
from napari_unroll.events import Event, IterationDone, PatchDone, Progress, QuickLook, whole
from napari_unroll.interrupt import stepwise
from napari_unroll.methods.journal import Journal
from napari_unroll.methods.memory import A_HANDFUL, Memory
from napari_unroll.methods.residual import MeasuredResidual, NormalResidual, Residual
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.laws import norm, norm_estimates
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.record import Record
from napari_unroll.scan.scan import MODALITIES, Modality, Scan

NORM_STEPS = 20
NORM_RISE = 2e-3
"""The power iteration ends where a step raises its estimate by less than this part: within 2 % of the eigenvalue."""
NORM_TEXT = "measuring the operator's norm"
_norms: WeakKeyDictionary[Scan, float] = WeakKeyDictionary()
"""Largest eigenvalues of AᴴA that runs found: the next ones on the same scan need not look again."""


class MethodParams(Record):
    """Base of the parameter records."""


class Estimate:
    """The best whole estimate so far, (z, y, x) in the scan's units: the newest that a method kept or showed."""

    def __init__(self) -> None:
        self._x: torch.Tensor | np.ndarray | None = None
        self._is_own = False

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._x is not None

    def keep(self, x: torch.Tensor) -> None:
        """Take x (..., z, y, x), which the method will not change in place."""
        self._x, self._is_own = x, False

    def see(self, event: Event) -> Event:
        """Take what an event shows: a volume, or a patch over the estimate before it."""
        if isinstance(event, IterationDone) and event.values is not None:
            self._x, self._is_own = event.values, False
        elif isinstance(event, PatchDone) and self.exists:
            self._own()[event.box] = event.values
        return event

    def values(self) -> np.ndarray:
        """The estimate as events carry it. Raises FinishNow where there is none yet."""
        if not self.exists:
            raise FinishNow("There was no estimate yet to finish with.")
        return self._own()

    def _own(self) -> np.ndarray:
        if not self._is_own:
            self._x, self._is_own = as_values(torch.as_tensor(self._x)), True
        assert isinstance(self._x, np.ndarray)
        return self._x


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reconstruction problem on one device.

    ``physics`` is the operator A (see ``physics.build``); ``y`` its measurements with a batch axis;
    ``normal`` the fitted approximation of AᴴA or None; ``patch_size`` (z, y, x) and ``overlap`` (voxels) for
    patchwise work; ``card`` the GPU through which patches go where volumes do not fit it, None where networks and volumes are
    on one device; ``estimate`` is what a run that is asked to finish returns. ``state`` survives an
    attempt: after out-of-memory the pipeline calls ``solve`` again with smaller patches and the same ``state``,
    so a method that keeps its finished work there (say ``state["x"]``, ``state["iteration"]``) goes on from it; ``journal``
    hears of patches, so that a killed run goes on from ``state`` too.
    """

    scan: Scan
    physics: VolumePhysics
    y: torch.Tensor
    normal: NormalFactors | None = None
    patch_size: tuple[int, int, int] = (48, 48, 48)
    overlap: int = 8
    precision: str = "float32"
    card: torch.device | None = None
    estimate: Estimate = field(default_factory=Estimate)
    state: dict[str, Any] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)

    @property
    def device(self) -> torch.device:
        """Where volumes and measurements live."""
        return self.y.device

    @property
    def network_device(self) -> torch.device:
        """Where networks live."""
        return self.card or self.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume's shape (z, y, x)."""
        return self.scan.grid.shape

    @cached_property
    def adjoint(self) -> torch.Tensor:
        """Aᴴy, (1, 1, z, y, x)."""
        return self.physics.A_adjoint(self.y)

    @cached_property
    def size(self) -> float:
        """‖y‖."""
        return norm(self.y)

    def residual_at(self, x: torch.Tensor | None = None) -> Residual:
        """What x (1, 1, z, y, x), zero where None, leaves of the measurements, by the operator's cheapest exact form."""
        at = self.zeros() if x is None else x
        if self.physics.has_direct_normal:
            return self.residual_again(at, self.adjoint if x is None else self.adjoint - self.physics.normal(x))
        return self.residual_again(at, self.y if x is None else self._left(x))

    def residual_again(self, x: torch.Tensor, left: torch.Tensor) -> Residual:
        """That at x again, with what was ``left`` of the measurements there."""
        if self.physics.has_direct_normal:
            return NormalResidual(self.physics.normal, x, left, self.adjoint, self.size)
        return MeasuredResidual(self.physics, x, left)

    def find_quick(self, **choices: Any) -> Generator[Event, None, torch.Tensor]:
        """FDK, FBP, the zero-filled, gridded or interpolated image, (1, 1, z, y, x).

        Where there is no estimate yet it is the first: kept, and told as a QuickLook.
        ``x = yield from problem.find_quick()``; ``choices`` are those of the physics' ``A_dagger``.
        """
        x = yield from stepwise(lambda: self.physics.A_dagger(self.y, **choices), "quick reconstruction")
        if not self.estimate.exists:
            self.estimate.keep(x)
            yield QuickLook(whole(self.shape), x.detach()[0, 0].cpu().numpy())
        return x

    def zeros(self) -> torch.Tensor:
        """An empty volume (1, 1, z, y, x)."""
        return torch.zeros(self.physics.x_shape, dtype=self.physics.dtype, device=self.device)

    def find_norm(self) -> Generator[Event, None, float]:
        """Largest eigenvalue of AᴴA by power iteration (seeded), on the approximation where one is fitted.

        ``norm = yield from problem.find_norm()``. Found once for every scan, whatever the method and its run.
        """
        if self.normal is not None:
            normal = self.normal
            return (yield from stepwise(lambda: normal.norm_squared, NORM_TEXT))
        if self.scan not in _norms:
            estimates = [0.0]
            for estimate in norm_estimates(self.physics, NORM_STEPS):
                yield Progress(len(estimates), NORM_STEPS, NORM_TEXT)
                estimates.append(estimate)
                if estimate <= (1 + NORM_RISE) * estimates[-2]:
                    break
            yield Progress(NORM_STEPS, NORM_STEPS, NORM_TEXT)
            if estimates[-1] == 0:
                raise ScanError(
                    "No measurement sees the volume, A is zero: check the geometry, the region, the mask and the coil maps."
                )
            _norms[self.scan] = estimates[-1]
        return _norms[self.scan]

    def residual(self, x: torch.Tensor) -> float:
        """‖A x − y‖ / ‖y‖ for x (1, 1, z, y, x)."""
        return norm(self._left(x)) / max(self.size, 1e-300)

    def _left(self, x: torch.Tensor) -> torch.Tensor:
        """y − A x, in the memory of A x."""
        return self.physics.A(x).neg_().add_(self.y)


def measured(scan: Scan, device: torch.device | str) -> torch.Tensor:
    """The measurements on ``device`` with a batch axis, and a channel axis for CT and images."""
    y = torch.from_numpy(np.ascontiguousarray(scan.measurements)).to(device)
    return y[None] if scan.modality == "mri" else y[None, None]


def as_tensor(volume: np.ndarray, physics: VolumePhysics) -> torch.Tensor:
    """A volume (z, y, x) as the operator takes it, (1, 1, z, y, x) on its device: the way back from ``as_values``."""
    return torch.from_numpy(np.ascontiguousarray(volume)).to(physics.device, physics.dtype)[None, None]


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

    def __call__(self, problem: Problem, params: Any, /) -> Generator[Event, None, torch.Tensor]:
        """Solve with ``params``, a record of the method's own type; returns the volume (z, y, x)."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """An entry of the registry: name, what it needs, its record and its generator.

    ``memory`` estimates peak bytes beyond the scan and what its operator takes; the plan uses it.
    ``refuses`` says why the method does not apply to a scan of one of its modalities, such as "fbp is for parallel
    beams", and is empty where it does.
    ``needs_normal`` says from the params whether a fitted normal operator is needed; None means never.
    ``find_weights`` is the checkpoint that (scan, params) would use, a ``weights.Weights``; it raises WeightsError where
    there is none. ``settle`` fills in what the params leave open and the scan decides; it raises WeightsError too.
    ``learning`` says how its network is trained, None where nothing is; ``network_of`` names the methods whose
    trained networks it uses, the preferred first, where that is not its own.
    """

    name: str
    title: str
    summary: str
    source: str
    params: type[MethodParams]
    solve: Solve
    modalities: frozenset[Modality] = frozenset(MODALITIES)
    refuses: Callable[[Scan], str] | None = None
    needs_weights: bool = False
    patchwise: bool = False
    iterative: bool = True
    memory: Memory = A_HANDFUL
    needs_normal: Callable[[Any], bool] | None = None
    find_weights: Callable[[Scan, Any], Any] | None = None
    settle: Callable[[Scan, Any], Any] | None = None
    learning: Learning | None = None
    network_of: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The methods whose trained networks it can use."""
        return self.network_of or (self.name,)

    def obstacle(self, scan: Scan) -> str:
        """Why the method does not apply to ``scan``, in words; empty where it does."""
        if scan.modality not in self.modalities:
            return f"{self.name} does not apply to {MODALITIES[scan.modality]} scans"
        return self.refuses(scan) if self.refuses else ""
