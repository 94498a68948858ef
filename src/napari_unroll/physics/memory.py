"""Sizes before allocations: a sentence where what is about to be computed cannot fit the memory that is free."""

from __future__ import annotations

import psutil
import torch

from napari_unroll.errors import MemoryExceeded


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Memory that is free now on the device, torch's own reserve included; of the machine where it is no CUDA device."""
    device = torch.device(device)
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve
    return int(psutil.virtual_memory().available)


def require(n_bytes: int, what: str, device: torch.device | str = "cpu") -> None:
    """Raise MemoryExceeded unless so many bytes are free."""
    free = free_bytes(device)
    if n_bytes > free:
        raise MemoryExceeded(
            f"{what} needs at least {n_bytes / 2**30:.3g} GiB of memory, but {device} has {free / 2**30:.3g} GiB free. "
            "Choose fewer or larger voxels, fewer measurements, or another device."
        )
