"""Where the arrays of a run lie: patches that fit the memory, and whole volumes there too, those that do not fit on disk.

Where whole volumes do not fit a GPU, they are placed as on a CPU, and the patches of networks go through the GPU. Arithmetic on
shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_unroll.errors import MemoryExceeded
from napari_unroll.methods.memory import Shape
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.memory import SHARE, Task, card_bytes, check_memory, gib, run_bytes, split_bytes
from napari_unroll.pipeline.patching import choose_patches

COUNTED_SHARE = 0.9
"""Part of the free memory that whole volumes may take, which are counted to the byte, with 1/SHARE of what else is estimated."""


@dataclass(frozen=True)
class Placement:
    """Patches, why in words, the device of whole volumes, and bytes of its memory and disk.

    ``volume_bytes`` of that memory are the most that whole volumes may take before they go to disk, None where nothing holds
    them to it. ``card``: through which GPU patches go where volumes do not fit it, and how much of it that takes.
    """

    patch_size: Shape
    why: str
    device: Device
    memory_bytes: int
    volume_bytes: int | None = None
    disk_bytes: int = 0
    card: Device | None = None
    card_bytes: int = 0

    @property
    def cautions(self) -> list[str]:
        """What to know of it before the run, a sentence each."""
        said = []
        if self.card is not None:
            said.append(
                f"The volumes of this run do not fit {self.card.name}: they stay in the computer's memory, patches go through "
                "the card."
            )
        if self.disk_bytes:
            said.append(
                f"Not all whole volumes fit the memory: about {gib(self.disk_bytes)} of them go to disk, in {self.device.scratch} "
                f"({gib(self.device.disk_bytes)} free)."
            )
        return said


def place(asked: int | str, task: Task, device: Device, cpu: Device, overlap: int) -> Placement:
    """Where a run lies, in patches with the edge that was ``asked`` for, or the best ones; neighbours share ``overlap`` voxels.

    On the chosen ``device``, or with the networks of patches alone there and the rest on the ``cpu``. Raises MemoryExceeded where
    there is no room.
    """
    may_split = device.name.startswith("cuda") and task.method.patchwise
    try:
        placed = _placed(asked, task, device, overlap)
        if not may_split or placed.memory_bytes <= device.free_bytes:
            return placed
    except MemoryExceeded:
        if not may_split:
            raise
    task = task._replace(card=device)
    placed = _placed(asked, task, cpu, overlap)
    return replace(placed, card=device, card_bytes=card_bytes(task, placed.patch_size))


def _placed(asked: int | str, task: Task, device: Device, overlap: int) -> Placement:
    """With whole volumes on ``device``.

    Those of X-ray scans may go to disk, those that come when the memory is full; images of coils and what is on a GPU do not.
    """
    may_spill = task.scan.modality == "ct" and device.disk_bytes > 0
    try:
        check_memory(task.scan, task.grid, device)
        patch, why = _patches(asked, task, device, overlap, False)
        in_memory, (less, volumes) = run_bytes(task, patch, device.name), split_bytes(task, patch)
        is_small = in_memory <= max(less, SHARE * device.free_bytes)
        if is_small or not may_spill or volumes > device.disk_bytes:
            return Placement(patch, why, device, in_memory)
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
    return Placement(patch, why, device, need + min(volumes, most), most, max(0, volumes - most))


def _patches(asked: int | str, task: Task, device: Device, overlap: int, on_disk: bool) -> tuple[Shape, str]:
    """The patches that were asked for, or the best ones and why."""
    if isinstance(asked, int):
        z, y, x = (min(asked, n) for n in task.grid.shape)
        return (z, y, x), ""
    if not task.method.patchwise:
        return task.grid.shape, ""
    return choose_patches(task, device, overlap, on_disk)
