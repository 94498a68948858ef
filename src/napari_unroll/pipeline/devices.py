"""What this machine offers: devices and their memory. The only place that asks; plans are pure functions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_unroll.errors import DeviceError
from napari_unroll.physics.memory import free_bytes
from napari_unroll.training.precision import has_bfloat16


@dataclass(frozen=True)
class Device:
    """A device as torch names it, with the memory that is free now, in bytes, and whether it computes in bfloat16 itself."""

    name: str
    title: str
    free_bytes: int
    has_bfloat16: bool = False


def probe() -> tuple[Device, ...]:
    """CUDA devices first, then Apple's, then the CPU (always there)."""
    found = [_cuda(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", free_bytes()))
    cpu = Device("cpu", f"CPU, {torch.get_num_threads()} threads", free_bytes(), has_bfloat16("cpu"))
    return (*found, cpu)


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
