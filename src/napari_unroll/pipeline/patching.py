"""Into which patches a run cuts its volume: the least work for the network that fits the memory and can be stopped soon.

Arithmetic on shapes only. One rule for every device; what the user asks for is not changed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from napari_unroll.errors import MemoryExceeded, WeightsError
from napari_unroll.methods.memory import Shape
from napari_unroll.methods.networks.prior import PriorConfig
from napari_unroll.methods.problem import Method
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.memory import (
    SHARE,
    Task,
    at_once,
    card_bytes,
    fewest_voxels,
    gib,
    run_bytes,
    split_bytes,
    voxels,
)
from napari_unroll.scan.scan import Scan

MOST_OVERLAP = 16
"""Voxels; beyond them the networks' answers hardly depend on what is there (docs/decisions/patches.md)."""
SMALLEST = 16
"""Edge of the smallest patch."""
MULTIPLE = 8
"""Edges are tried in steps of so many voxels, to which most networks pad their patches."""
LAYER_S = 1.0
"""Seconds that a network's heaviest layer may take, because a run is stopped between layers."""
RATE = {"cpu": 1.5e10, "cuda": 1e12}
"""Multiplications per second in convolutions, at least: of one processor core, and of a GPU; others count as the former."""
MOST_VOXELS = 256**3
"""Of a patch: with some hundred channels its maps still have fewer than 2³¹ numbers."""
PER_PATCH = 4096
"""Voxels in whose time the work around a patch is done."""


def network_of(method: Method, params: Any, scan: Scan) -> Any:
    """The architecture that will run, None where that is not known."""
    if method.find_weights is None:
        return None
    try:
        return method.find_weights(scan, params).config
    except WeightsError:
        return None


def prior_of(method: Method, params: Any, scan: Scan) -> PriorConfig | None:
    """The network that will run over patches, None where that is not known."""
    prior = getattr(network_of(method, params, scan), "prior", None)
    return prior if isinstance(prior, PriorConfig) else None


def overlap_for(prior: PriorConfig | None) -> int:
    """Twice as far as the network sees, so that patches answer as the whole volume does, or up to a limit as far as it sees."""
    if prior is None:
        return MOST_OVERLAP
    return 2 * prior.reach if 2 * prior.reach <= MOST_OVERLAP else min(MOST_OVERLAP, prior.reach)


def largest_for(prior: PriorConfig | None, device: str) -> int:
    """Voxels of the largest patch."""
    if prior is None:
        return MOST_VOXELS
    return min(MOST_VOXELS, round(LAYER_S * RATE.get(device.partition(":")[0], RATE["cpu"]) / prior.multiplications))


def snug(shape: Shape, edge: int, overlap: int, multiple: int = MULTIPLE) -> Shape:
    """The smallest patch that cuts every axis into as few parts as ``edge`` does, in multiples where it cuts at all."""

    def along(n: int) -> int:
        if n <= edge:
            return n
        count = -(-(n - overlap) // max(1, edge - overlap))
        return min(n, -(-(n + (count - 1) * overlap) // (count * multiple)) * multiple)

    z, y, x = (along(n) for n in shape)
    return z, y, x


def work(grid: PatchGrid, multiple: int) -> int:
    """Voxels that go through the network in one pass, with padding, and those in whose time patches are cut and blended."""
    padded = math.prod(-(-n // multiple) * multiple for n in grid.patch_shape)
    return len(grid) * (padded + PER_PATCH)


def choose_patches(task: Task, device: Device, overlap: int, on_disk: bool = False) -> tuple[Shape, str]:
    """The patches (z, y, x) of the least work that fit, and why in words; neighbours share ``overlap`` voxels.

    Where whole volumes may go ``on_disk`` no patch counts as one. Raises MemoryExceeded where even the smallest do not fit.
    """
    shape, prior = task.grid.shape, prior_of(task.method, task.params, task.scan)
    multiple = 1 if prior is None else prior.multiple
    network_device = (task.card or device).name
    grids = _candidates(shape, overlap, largest_for(prior, network_device), network_device)
    if on_disk and max(shape) > SMALLEST:
        grids = (cut for cut in grids if voxels(cut.patch_shape) < fewest_voxels(shape))
    for cut in sorted(grids, key=lambda cut: work(cut, multiple)):
        needs = _needs(task, cut.patch_shape, device, on_disk)
        short = [(need, where) for need, where in needs if need > SHARE * where.free_bytes]
        if not short:
            return cut.patch_shape, _why(cut, needs)
    need, where = short[0]
    raise MemoryExceeded(
        f"{task.method.title} needs about {gib(need)} for a volume of {shape}, but {where.name} has "
        f"{gib(where.free_bytes)} free; choose a region, a coarser grid or another device."
    )


def _needs(task: Task, patch: Shape, device: Device, on_disk: bool) -> list[tuple[int, Device]]:
    """Bytes, and where."""
    here = split_bytes(task, patch)[0] if on_disk else run_bytes(task, patch, device.name)
    there = [] if task.card is None else [(card_bytes(task, patch), task.card)]
    return [(here, device), *there]


def _candidates(shape: Shape, overlap: int, most: int, device: str) -> Iterator[PatchGrid]:
    """Grids whose patches together have up to ``most`` voxels in a pass, and those of the smallest patches; each once."""
    seen = set()
    for edge in range(SMALLEST, max(*shape, SMALLEST) + MULTIPLE, MULTIPLE):
        shared = min(overlap, edge // 2)
        patch = snug(shape, edge, shared)
        fits = at_once(patch, shape, device) * voxels(patch) <= most
        if patch not in seen and (fits or edge == SMALLEST):
            seen.add(patch)
            yield PatchGrid(shape, patch, shared)


def _why(cut: PatchGrid, needs: list[tuple[int, Device]]) -> str:
    size = " × ".join(map(str, cut.patch_shape))
    more = len(cut) * voxels(cut.patch_shape) / voxels(cut.shape)
    patches = f"One patch of {size} voxels" if len(cut) == 1 else f"{len(cut)} patches of {size} voxels"
    seen = "" if len(cut) == 1 else f" ({more:.1f} times the volume through the network)"
    where = " and ".join(f"{gib(need)} of {gib(device.free_bytes)} free on {device.name}" for need, device in needs)
    return f"{patches}{seen}: about {where}."
