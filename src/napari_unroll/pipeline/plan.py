"""Choices → Plan: what exactly will run, decided once, before anything runs.

``resolve`` is a pure function of the choices, the scan's geometry and the devices. It computes nothing on a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from napari_unroll.errors import MemoryExceeded, ParameterError, WeightsError
from napari_unroll.events import Box
from napari_unroll.methods.algorithms.adaptation import PARAM as ADAPTATION
from napari_unroll.methods.algorithms.adaptation import is_known, n_adaptation
from napari_unroll.methods.domain import foreign
from napari_unroll.methods.memory import Shape
from napari_unroll.methods.problem import Method, MethodParams
from napari_unroll.methods.registry import for_scan, get
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, Form
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.physics.redundancy import missing_arc
from napari_unroll.physics.xray_astra import Cards
from napari_unroll.pipeline.devices import Device, choose, probe
from napari_unroll.pipeline.memory import SHARE, Task, gib
from napari_unroll.pipeline.params import build
from napari_unroll.pipeline.patching import network_of, overlap_for, prior_of
from napari_unroll.pipeline.placing import Placement, place
from napari_unroll.pipeline.spoken import FIT_IN_A_RUN, command, script
from napari_unroll.pipeline.times import Counted, Expected, StageTime, counted, expected, remember
from napari_unroll.pipeline.verdicts import automatic
from napari_unroll.record import FileName, Record
from napari_unroll.scan.field_of_view import check_volume
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan

Index = Annotated[int, Field(ge=-MOST, le=MOST)]


class Choices(Record):
    """What the user wishes."""

    method: str = Field(
        default="auto",
        description="Name of the method; auto takes what a comparison on this scan found best, else the strongest that applies.",
    )
    params: dict[str, Any] = Field(default={}, description="Parameters of the method that differ from their defaults.")
    patch_size: Annotated[int, Field(ge=8, le=4096)] | Literal["auto"] = Field(
        default="auto", description="Edge of a patch; auto is the least work that fits the memory.",
        json_schema_extra={"unit": "voxels"},
    )  # fmt: skip
    overlap: Annotated[int, Field(ge=0, le=512)] | Literal["auto"] = Field(
        default="auto", description="Voxels that neighbouring patches share; auto is as far as the network sees, up to 16.",
        json_schema_extra={"unit": "voxels"},
    )  # fmt: skip
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:1.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Number type inside networks; auto is bfloat16 where the device computes it, float32 else and in fixed points.",
    )
    max_memory_gb: Annotated[float, Field(ge=0.001, le=1e6)] | Literal["auto"] = Field(
        default="auto", description="Memory beside the scan that a run may take; auto is what is free.",
        json_schema_extra={"unit": "GB"},
    )  # fmt: skip
    normal: Form = Field(default="auto", description="Form of the approximated normal operator.")
    fit: dict[str, Any] = Field(
        default={},
        description="Options of the normal operator's fit that differ from their defaults; its form is normal.",
    )
    weights: FileName = Field(default="auto", description="Name of shipped weights, or a .safetensors file.")
    roi: tuple[Index, Index, Index, Index, Index, Index] | None = Field(
        default=None,
        description="Reconstruct only these voxels: z0, z1, y0, y1, x0, x1.",
        json_schema_extra={"unit": "voxels"},
    )


LEAST_MISSING_DEG = 2.0
"""A smaller gap than this is not worth a note."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A resolved run. ``grid`` is the grid of the result; ``command`` repeats the run from a shell, ``script`` from Python.

    ``cautions`` are what to know before it runs, a sentence each: missing angles, scans unlike those that the weights know.
    Volumes and the operator are on ``device``. Where they do not fit the GPU that was chosen, that is the CPU, and ``card`` the GPU
    through which the network's patches go, of which it then holds ``card_bytes``; empty elsewhere. ``rays``: the cards through
    which X-ray projections then go where ASTRA works, all of one kind with ``card`` unless one was asked for by its number.
    ``volume_bytes`` of the memory are the most that whole volumes may take before they go to disk, None where they are not held
    to it; ``disk_bytes`` what is then foreseen in the folder ``scratch``.
    ``max_memory_gb`` is what the user allows, "auto" where that is not limited; what a limited run frees goes back to the system
    at once.
    ``expected`` is the time that it will take by what earlier runs took, ``work`` a count of its work (see ``times``).
    """

    method: str
    params: MethodParams
    patch_size: Shape
    overlap: int
    device: str
    precision: str
    fit: FitOptions
    needs_normal: bool
    roi: Box | None
    grid: VolumeGrid
    memory_bytes: int
    free_bytes: int
    command: str
    card: str = ""
    card_bytes: int = 0
    rays: Cards | None = None
    volume_bytes: int | None = None
    disk_bytes: int = 0
    scratch: Path = Path()
    max_memory_gb: float | str = "auto"
    script: str = ""
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    timed_as: str = field(default="", compare=False)
    work: Counted = field(default=Counted(0.0), compare=False)
    expected: Expected = field(default=Expected(0.0), compare=False)

    @property
    def title(self) -> str:
        """The method's title."""
        return get(self.method).title

    @property
    def place(self) -> str:
        """Where it runs, in words."""
        return f"{self.card} for patches, {self.device} for volumes" if self.card else self.device

    @property
    def facts(self) -> dict[str, Any]:
        """What a person wants to see before it runs."""
        changed = ", ".join(f"{k}={v}" for k, v in self.params.model_dump().items())
        on_disk = f"; volumes on disk: {gib(self.disk_bytes)} in {self.scratch}" if self.disk_bytes else ""
        on_card = f"; on {self.card}: {gib(self.card_bytes)}" if self.card else ""
        patches = f"{self.patch_size}, overlap {self.overlap}" if get(self.method).patchwise else "none"
        return {
            "method": f"{self.title} ({self.method})",
            "parameters": changed or "none",
            "volume": self.grid.shape,
            "patches": patches,
            "device": f"{self.place}, {self.precision}",
            **({"caution": list(self.cautions)} if self.cautions else {}),
            "memory": f"about {gib(self.memory_bytes)} of {gib(self.free_bytes)} free{on_card}{on_disk}",
            "time": self.expected.text,
            "command": self.command,
        }

    @property
    def result_bytes(self) -> int:
        """Of the written volume at most: uncompressed, with halved copies for viewers, or magnitude and phase."""
        return 8 * math.prod(self.grid.shape)

    def expected_with(self, factors: NormalFactors | None) -> Expected:
        """What it will take where these are the fitted normal operator already."""
        return self.expected if factors is None else self.expected.without_fit()

    def remember(self, scan: Scan, took: Sequence[StageTime]) -> None:
        """Keep what a completed run of this plan took, for the next one's ``expected``."""
        remember(self.timed_as, scan, self.place, self.roi is not None, self.work, took)

    def smaller(self) -> Plan | None:
        """The plan with half the patch, or None when patches cannot shrink further."""
        if max(self.patch_size) <= 16 or not get(self.method).patchwise:
            return None
        half: Shape = tuple(min(p, max(16, -(-p // 16) * 8)) for p in self.patch_size)  # type: ignore[assignment]
        return replace(self, patch_size=half, overlap=min(self.overlap, _cut_edge(half, self.grid.shape) // 2))


def resolve(choices: Choices, scan: Scan, devices: Sequence[Device] | None = None) -> Plan:
    """Decide everything that the choices leave open.

    Raises ParameterError or DeviceError where a choice does not fit the scan or the machine, ScanError where no ray
    meets the region, MemoryExceeded where the plan surely does not fit.
    """
    devices = probe() if devices is None else devices
    device, cpu = (_limited(d, choices.max_memory_gb) for d in (choose(choices.device, devices), devices[-1]))
    method, why_this = _method(choices.method, scan)
    wished = _params(method, choices)
    params = _settled(method, wished, scan)
    box = None if choices.roi is None else roi_box(choices.roi, scan.grid.shape)
    grid = scan.grid if box is None else scan.grid.restrict(box)
    if isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        check_volume(scan.geometry, grid)
    shared = overlap_for(prior_of(method, params, scan)) if choices.overlap == "auto" else choices.overlap
    precision = _precision(choices.precision, device, method, network_of(method, params, scan))
    task = Task(method, params, scan, grid, precision)
    placed, params = _placed(choices.patch_size, task, device, cpu, shared, must_adapt=n_adaptation(wished) > 0)
    patch = placed.patch_size
    edge = _cut_edge(patch, grid.shape)
    overlap = min(shared, edge // 2) if choices.overlap == "auto" else shared
    if overlap >= edge and overlap > 0 and method.patchwise and edge > 1:
        raise ParameterError(f"The overlap ({overlap}) must be smaller than the patch {patch}; lower it.")
    if method.patchwise and len(PatchGrid(grid.shape, patch, overlap)) > MOST:
        raise ParameterError(
            f"Patches {patch} with an overlap of {overlap} would be more than {MOST:,} for a volume of {grid.shape}; "
            "choose larger patches or less overlap."
        )
    needs_normal = bool(method.needs_normal and method.needs_normal(params))
    n_steps = _steps_due(method, params, scan, precision)
    work = counted(method, params, scan, grid, patch, min(overlap, edge - 1), n_steps)
    plan = Plan(
        method=method.name,
        params=params,
        patch_size=patch,
        overlap=overlap,
        device=placed.device.name,
        card=placed.card.name if placed.card else "",
        card_bytes=placed.card_bytes,
        rays=_rays(placed, choices, scan, devices),
        precision=precision,
        fit=fit_options(choices),
        needs_normal=needs_normal,
        roi=box,
        grid=grid,
        memory_bytes=placed.memory_bytes,
        free_bytes=placed.device.free_bytes,
        volume_bytes=placed.volume_bytes,
        disk_bytes=placed.disk_bytes,
        scratch=placed.device.scratch,
        max_memory_gb=choices.max_memory_gb,
        command=command(choices, method.name, params, scan),
        script=script(choices, method.name, params, scan),
        notes=(placed.why,) if placed.why else (),
        cautions=(
            *placed.cautions,
            *_slow_numbers(choices.precision, device),
            *_missing_angles(scan),
            *why_this,
            *_unlike_training(task, n_adaptation(params)),
        ),
        timed_as=f"{method.name}, adapted" if n_steps else method.name,
        work=work,
    )
    return replace(plan, expected=expected(plan.timed_as, scan, plan.place, box is not None, work))


def _placed(
    asked: int | str, task: Task, device: Device, cpu: Device, overlap: int, must_adapt: bool
) -> tuple[Placement, MethodParams]:
    """Where the run lies, and its params.

    An adaptation that nobody asked for is left out where there is no room for the volume in one piece beside its network.
    """
    try:
        placed = place(asked, task, device, cpu, overlap)
        if must_adapt or not (placed.card and n_adaptation(task.params)):
            return placed, task.params
    except MemoryExceeded:
        if must_adapt or not n_adaptation(task.params):
            raise
    without = task.params.model_copy(update={ADAPTATION: 0})
    return place(asked, task._replace(params=without), device, cpu, overlap), without


def _unlike_training(task: Task, n_steps: int) -> list[str]:
    """What of the scan the network was not trained for, and what is done about it."""
    unlike = foreign(task.method, task.scan, task.params)
    if unlike and n_steps:
        return [*unlike, f"So it is first adapted to the scan's own samples, in {n_steps} steps."]
    no_room = "There is no room to adapt it to the scan's own samples."
    return [*unlike, no_room] if n_adaptation(task.params) and not n_steps else unlike


def _rays(placed: Placement, choices: Choices, scan: Scan, devices: Sequence[Device]) -> Cards | None:
    """Cards for X-ray projections, and what the network leaves of the smallest one, with the usual reserve."""
    card = placed.card
    if card is None or scan.modality != "ct":
        return None
    of_a_kind = [d for d in devices if d.name.startswith("cuda") and d.title == card.title]
    several = of_a_kind if choices.device in ("auto", "cuda") else [card]
    free = min(_limited(d, choices.max_memory_gb).free_bytes for d in several)
    numbers = tuple(int(d.name.partition(":")[2]) for d in several)
    return Cards(numbers, max(1, round(SHARE * (free - placed.card_bytes))))


def _limited(device: Device, gigabytes: float | str) -> Device:
    """The device with no more memory than the user lets a run take."""
    if isinstance(gigabytes, str):
        return device
    return replace(device, free_bytes=min(device.free_bytes, int(gigabytes * 1e9)))


def fit_options(choices: Choices) -> FitOptions:
    """How the normal operator is fitted, where it is needed; raises ParameterError for a wrong option."""
    return build(FitOptions, {**FIT_IN_A_RUN, **choices.fit, "form": choices.normal}, "The fit")


def _missing_angles(scan: Scan) -> list[str]:
    """What to expect where the views do not go far enough round, at most one sentence."""
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return []
    missing = math.degrees(missing_arc(scan.geometry))
    if missing < LEAST_MISSING_DEG:
        return []
    return [
        f"The views lack {missing:.0f}° of a complete scan: edges along the missing directions stay blurred, whatever the "
        "method, and values there are not to be trusted."
    ]


def parse_roi(text: str, shape: Shape) -> tuple[int, ...]:
    """``z0,z1`` or ``z0,z1,y0,y1,x0,x1`` as six numbers; colons and spaces may stand for commas."""
    words = text.replace(":", ",").replace(" ", ",").split(",")
    try:
        numbers = tuple(int(w) for w in words if w)
    except ValueError:
        numbers = ()
    if len(numbers) == 2:
        numbers = (*numbers, 0, shape[1], 0, shape[2])
    if len(numbers) != 6:
        raise ParameterError(f"Expected a region as z0,z1 or z0,z1,y0,y1,x0,x1 in voxels; got {text!r}.")
    return numbers


def roi_box(roi: Sequence[int], shape: Shape) -> Box:
    """The box of z0, z1, y0, y1, x0, x1; raises ParameterError unless it lies inside ``shape``."""
    starts, stops = roi[::2], roi[1::2]
    if not all(0 <= a < b <= n for a, b, n in zip(starts, stops, shape, strict=True)):
        raise ParameterError(
            f"Expected a region z0 < z1, y0 < y1, x0 < x1 inside the volume {shape}; got {tuple(roi)}."
        )
    z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def _method(name: str, scan: Scan) -> tuple[Method, list[str]]:
    method, why = automatic(scan) if name == "auto" else (get(name), [])
    obstacle = method.obstacle(scan)
    if obstacle:
        fitting = ", ".join(m.name for m in for_scan(scan))
        raise ParameterError(f"{obstacle}; choose one of {fitting}.")
    return method, why


def _params(method: Method, choices: Choices) -> MethodParams:
    """The method's record; the choice of weights goes into it where it has that field."""
    values = dict(choices.params)
    if "weights" in method.params.model_fields and choices.weights != "auto":
        values.setdefault("weights", choices.weights)
    return build(method.params, values, f"The method {method.name}")


def _settled(method: Method, params: MethodParams, scan: Scan) -> MethodParams:
    """With what the scan decides; as they are where there are no weights, which the run will say."""
    if method.settle is None:
        return params
    with suppress(WeightsError):
        params = method.settle(scan, params)
    return params


def _steps_due(method: Method, params: MethodParams, scan: Scan, precision: str) -> int:
    """Steps of adaptation that the run will take: none where an earlier one did."""
    n = n_adaptation(params)
    with suppress(WeightsError):
        if n and method.find_weights and is_known(scan, method.find_weights(scan, params).sha256, n, precision):
            return 0
    return n


def _cut_edge(patch: Shape, shape: Shape) -> int:
    """The least edge of a patch along the axes that are cut; thin volumes are whole along theirs."""
    return min([p for p, n in zip(patch, shape, strict=True) if p < n], default=max(patch))


def _precision(asked: str, device: Device, method: Method, network: Any) -> str:
    if asked != "auto":
        return asked
    has_network = method.find_weights is not None
    is_rough = has_network and device.has_bfloat16 and not getattr(network, "seeks_fixed_points", False)
    return "bfloat16" if is_rough else "float32"


def _slow_numbers(asked: str, device: Device) -> list[str]:
    if asked != "bfloat16" or device.has_bfloat16:
        return []
    return [
        f"{device.title} has no instructions for bfloat16: networks may take a hundred times longer. Choose float32."
    ]
