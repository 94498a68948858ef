"""What this machine offers: devices and their memory. The only place that asks; plans are pure functions of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_unroll.errors import DeviceError
from napari_unroll.normal.cache import cache_folder
from napari_unroll.physics.memory import free_bytes
from napari_unroll.team import n_here
from napari_unroll.training.precision import has_bfloat16


@dataclass(frozen=True)
class Device:
    """A device as torch names it, with the memory that is free now, in bytes, and whether it computes in bfloat16 itself.

    ``scratch`` is a folder where whole volumes may lie, and ``disk_bytes`` what is free there; 0 where they cannot.
    """

    name: str
    title: str
    free_bytes: int
    has_bfloat16: bool = False
    scratch: Path = Path()
    disk_bytes: int = 0


def probe() -> tuple[Device, ...]:
    """CUDA devices first, then Apple's, then the CPU (always there)."""
    found = [_cuda(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", free_bytes()))
    folder = scratch_folder()
    title = f"CPU, {torch.get_num_threads()} threads"
    free, room = (n_bytes // n_here() for n_bytes in (free_bytes(), _room_in(folder)))
    cpu = Device("cpu", title, free, has_bfloat16("cpu"), folder, room)
    return (*found, cpu)


def scratch_folder() -> Path:
    """Where volumes lie that do not fit the memory: the variable NAPARI_UNROLL_SCRATCH, else a part of the cache folder."""
    asked = os.environ.get("NAPARI_UNROLL_SCRATCH")
    return Path(asked) if asked else cache_folder() / "scratch"


def _room_in(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet; 0 where nothing can be told."""
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), folder)
    with suppress(OSError):
        return shutil.disk_usage(there).free
    return 0


def _cuda(index: int) -> Device:
    name = f"cuda:{index}"
    return Device(name, torch.cuda.get_device_name(index), free_bytes(name), has_bfloat16(name))


def choose(asked: str, devices: Sequence[Device]) -> Device:
    """The asked device, or for ``"auto"`` the first CUDA device, else the CPU.

    Raises DeviceError that lists what is here.
    """
    if asked == "auto":
        return next((d for d in devices if d.name.startswith("cuda")), devices[-1])
    name = "cuda:0" if asked == "cuda" else asked
    for device in devices:
        if device.name == name:
            return device
    here = ", ".join(d.name for d in devices)
    raise DeviceError(f"Expected one of the devices of this machine ({here}) or auto; got {asked!r}.")
