"""Where the arrays of a run lie: patches that fit the memory, and whole volumes there too, those that do not fit on disk.

Arithmetic on shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_unroll.errors import MemoryExceeded
from napari_unroll.methods.memory import Shape
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.memory import SHARE, Task, check_memory, gib, run_bytes, split_bytes
from napari_unroll.pipeline.patching import choose_patches

COUNTED_SHARE = 0.9
"""Part of the free memory that whole volumes may take, which are counted to the byte, with 1/SHARE of what else is estimated."""


@dataclass(frozen=True)
class Placement:
    """The patches, why in words, and bytes of memory and disk.

    ``volume_bytes`` of that memory are the most that whole volumes may take before they go to disk, None where nothing holds
    them to it.
    """

    patch_size: Shape
    why: str
    memory_bytes: int
    volume_bytes: int | None = None
    disk_bytes: int = 0

    def cautions(self, device: Device) -> list[str]:
        """What to know of it before the run, at most one sentence."""
        if not self.disk_bytes:
            return []
        return [
            f"Not all whole volumes fit the memory: about {gib(self.disk_bytes)} of them go to disk, in {device.scratch} "
            f"({gib(device.disk_bytes)} free)."
        ]


def place(asked: int | str, task: Task, device: Device, overlap: int) -> Placement:
    """Where a run lies, in patches with the edge that was ``asked`` for, or the best ones; neighbours share ``overlap`` voxels.

    Volumes of X-ray scans may go to disk, those that come when the memory is full; images of coils and what is on a GPU do not.
    Raises MemoryExceeded where there is no room.
    """
    may_spill = task.scan.modality == "ct" and device.disk_bytes > 0
    try:
        check_memory(task.scan, task.grid, device)
        patch, why = _patches(asked, task, device, overlap, False)
        in_memory, (less, volumes) = run_bytes(task, patch, device.name), split_bytes(task, patch)
        is_small = in_memory <= max(less, SHARE * device.free_bytes)
        if is_small or not may_spill or volumes > device.disk_bytes:
            return Placement(patch, why, in_memory)
    except MemoryExceeded:
        if not may_spill or split_bytes(task, task.grid.shape)[1] > device.disk_bytes:
            raise
    patch, why = _patches(asked, task, device, overlap, True)
    need, volumes = split_bytes(task, patch)
    if need > device.free_bytes:
        raise MemoryExceeded(
            f"{task.method.title} needs about {gib(need)} of memory even with its volumes on disk, but {device.name} has "
            f"{gib(device.free_bytes)} free; choose a region, fewer measurements or another device."
        )
    most = max(0, round(COUNTED_SHARE * device.free_bytes - need / SHARE))
    return Placement(patch, why, need + min(volumes, most), most, max(0, volumes - most))


def _patches(asked: int | str, task: Task, device: Device, overlap: int, on_disk: bool) -> tuple[Shape, str]:
    """The patches that were asked for, or the best ones and why."""
    if isinstance(asked, int):
        z, y, x = (min(asked, n) for n in task.grid.shape)
        return (z, y, x), ""
    if not task.method.patchwise:
        return task.grid.shape, ""
    return choose_patches(task, device, overlap, on_disk)
