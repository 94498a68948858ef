"""How much memory a run takes. Arithmetic on shapes only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from napari_unroll.errors import MemoryExceeded, WeightsError
from napari_unroll.methods.memory import Shape, Sizes
from napari_unroll.methods.patchwise import batch_size
from napari_unroll.methods.problem import Method
from napari_unroll.methods.streaming import N_IN_FLIGHT
from napari_unroll.methods.weights import shipped
from napari_unroll.physics.joseph import slabs
from napari_unroll.physics.pool import views_at_once
from napari_unroll.pipeline.devices import Device
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling
from napari_unroll.scratch import SLAB_BYTES

OWN_BYTES = 2**20
"""What a run takes whatever its size."""
SHARE = 0.7
"""Part of the free memory that a plan may take; the rest is for fragmentation and other programs."""
TOEPLITZ_GRIDS = 4
"""Doubled complex64 grids of AᴴA along trajectories: its spectrum, and the steps of a convolution (or of making it)."""
N_SLABS, N_CHUNKS = 3, 3
"""Slabs, and copies of a chunk of views, that are there at once beside volumes that may go to disk."""
COIL_IMAGES = 5
"""Stacks of coil images at once: maps, masked samples, the steps of a transform, and their products."""


def voxels(shape: Shape) -> int:
    """Number of voxels."""
    return shape[0] * shape[1] * shape[2]


def fewest_voxels(shape: Shape) -> int:
    """Of an array that counts as a whole volume: the transform of a real one has half of its numbers."""
    return voxels(shape) // 2


def base_bytes(scan: Scan, grid: VolumeGrid, device: str = "cpu") -> int:
    """What every run holds beside the scan: its result, and on a device of its own the scan too."""
    itemsize = 8 if scan.modality == "mri" else 4
    copied = 0 if device == "cpu" else scan.measurements.size * itemsize + _coil_images(scan)
    return OWN_BYTES + copied + itemsize * voxels(grid.shape)


def operator_bytes(scan: Scan) -> int:
    """What an application of the scan's operator takes for the moment: coil images, along trajectories wide grids too."""
    if isinstance(scan.geometry, NonCartesianSampling):
        return _trajectory_bytes(scan, scan.geometry)
    return COIL_IMAGES * _coil_images(scan)


def _trajectory_bytes(scan: Scan, sampling: NonCartesianSampling) -> int:
    """finufft's points, and a transform or a convolution.

    A transform has grids twice as fine, one per thread, in double precision as all that it is given; and all coils' samples.
    """
    n_samples, n_axes = math.prod(sampling.trajectory.shape[:2]), sum(n > 1 for n in scan.grid.shape)
    n_voxels, at_once = voxels(scan.grid.shape), min(sampling.n_coils, torch.get_num_threads())
    doubled = 2**n_axes * n_voxels
    transform = at_once * (16 * doubled + 24 * (n_voxels + n_samples)) + 8 * sampling.n_coils * n_samples
    return 8 * (n_axes + 1) * n_samples + max(transform, 8 * TOEPLITZ_GRIDS * doubled)


def _coil_images(scan: Scan) -> int:
    n_coils = len(scan.measurements) if scan.modality == "mri" else 0
    return 8 * n_coils * voxels(scan.grid.shape)


def at_once(patch: Shape, shape: Shape, device: str) -> int:
    """Patches that go through a network together."""
    return 1 if patch == shape else batch_size(torch.device(device))


class Task(NamedTuple):
    """What is to be run: a method on a scan, the grid of its result, and the number type inside networks.

    ``card`` is the GPU through which patches go where volumes are not on it, None where all is on one device.
    """

    method: Method
    params: Any
    scan: Scan
    grid: VolumeGrid
    precision: str = "float32"
    card: Device | None = None


def run_bytes(task: Task, patch: Shape, device: str = "cpu") -> int:
    """Estimated peak of a run with the weights that it will take, in bytes; complex volumes count twice.

    On ``device``, where volumes are; what networks take elsewhere is ``card_bytes``.
    """
    own = task.method.memory(_sizes(task, patch, device), _with_weights(task))
    return base_bytes(task.scan, task.grid, device) + own + _in_flight(task, patch)


def card_bytes(task: Task, patch: Shape) -> int:
    """On the task's card: what the network holds of a batch of patches, and those that are on their way."""
    assert task.card is not None
    sizes = _sizes(task._replace(card=None), patch, task.card.name)
    networks = replace(sizes, volume=0, measurements=0, operator=0, residual=0, in_patches=0)
    return task.method.memory(networks, _with_weights(task)) + _in_flight(task, patch)


def _in_flight(task: Task, patch: Shape) -> int:
    """Copies of patches on their way to a card and back, the same on both sides."""
    if task.card is None:
        return 0
    itemsize = 8 if task.scan.modality == "mri" else 4
    return 2 * N_IN_FLIGHT * at_once(patch, task.grid.shape, task.card.name) * itemsize * voxels(patch)


def split_bytes(task: Task, patch: Shape) -> tuple[int, int]:
    """The same on the CPU where whole volumes may go to disk: bytes of all else, which stays in memory, and those of volumes.

    Volumes no longer hide the views of a projection and the slabs of transforms.
    """
    method, whole, known = task.method, _sizes(task, patch, "cpu"), _with_weights(task)
    in_memory = method.memory(replace(whole, volume=0), known)
    volumes = base_bytes(task.scan, task.grid) + method.memory(whole, known) - in_memory
    chunks = N_CHUNKS * _chunk_bytes(task.scan, whole)
    return in_memory + chunks + _slab_bytes(task, whole) + _in_flight(task, patch), volumes


def _slab_bytes(task: Task, whole: Sizes) -> int:
    """Of planes that transforms or a projection hold at once; of small volumes a projection holds all, as one more volume."""
    needs_normal, n_slabs = task.method.needs_normal, len(slabs(task.grid.shape))
    transforms = needs_normal is not None and needs_normal(task.params)
    of_transforms = N_SLABS * min(SLAB_BYTES, whole.volume) if transforms else 0
    return max(of_transforms, whole.volume // n_slabs if n_slabs > 1 else 0)


def _chunk_bytes(scan: Scan, sizes: Sizes) -> int:
    """Of the views that filtered back-projection and AᴴA hold at once; of all measurements where there are no views."""
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        return sizes.measurements
    view = sizes.measurements // scan.geometry.n_views
    return view * views_at_once(scan.geometry.n_views, view, sizes.volume)


def _sizes(task: Task, patch: Shape, device: str) -> Sizes:
    scan, grid = task.scan, task.grid
    itemsize = 8 if scan.modality == "mri" else 4
    volume = itemsize * voxels(grid.shape)
    return Sizes(
        volume=volume,
        measurements=itemsize * scan.measurements.size,
        shape=grid.shape,
        patch=patch,
        n_patches=at_once(patch, grid.shape, device) if task.card is None else 0,
        operator=operator_bytes(scan),
        residual=0 if isinstance(scan.geometry, NonCartesianSampling) else None,
        in_patches=volume,
        itemsize=4 if task.precision == "float32" else 2,
    )


def _with_weights(task: Task) -> Any:
    """The params with the weights that will be taken; those that cannot be read count as the method's own ("auto")."""
    method, params = task.method, task.params
    if method.find_weights is None:
        return params
    try:
        found = method.find_weights(task.scan, params)
        weights = found.name if shipped().get(found.name) == found else str(found.path)
    except WeightsError:
        weights = "auto"
    return params.model_copy(update={"weights": weights})


def check_memory(scan: Scan, grid: VolumeGrid, device: Device) -> None:
    """Raise MemoryExceeded where the device cannot hold even what every run holds."""
    need = base_bytes(scan, grid, device.name) + operator_bytes(scan)
    if need > device.free_bytes:
        raise MemoryExceeded(
            f"A volume of {grid.shape} voxels with its measurements needs about {gib(need)}, but {device.name} has "
            f"{gib(device.free_bytes)} free; choose a region, a coarser grid or another device."
        )


def gib(n_bytes: float) -> str:
    """Bytes as people read them."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
