"""What a training step costs: seconds and peak memory."""

from __future__ import annotations

import sys

import psutil
import torch


class Meter:
    """Seconds per step since the last reading, and the peak memory so far."""

    def __init__(self, device: str, step: int, elapsed: float) -> None:
        self._device, self._step, self._elapsed = torch.device(device), step, elapsed
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def read(self, step: int, elapsed: float) -> dict[str, float]:
        """``seconds`` in all, ``seconds_per_step``, ``peak_memory_bytes`` (of the device, or of the process on a CPU)."""
        each = (elapsed - self._elapsed) / max(1, step - self._step)
        self._step, self._elapsed = step, elapsed
        return {"seconds": elapsed, "seconds_per_step": each, "peak_memory_bytes": float(peak_memory(self._device))}


def peak_memory(device: torch.device) -> int:
    """Most bytes that were in use: allocated tensors on CUDA, resident memory of this process elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
