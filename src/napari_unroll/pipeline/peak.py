"""Peak memory of a piece of work. Linux keeps a high-water mark that a process may reset; elsewhere the value is a lower bound."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """``with PeakMemory(device) as peak: …``, then ``peak.n_bytes``.

    On CUDA the most that torch held at once; on the CPU by how much the process grew at most.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.n_bytes = 0
        self._before = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _reset()
            self._before = psutil.Process().memory_info().rss
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.n_bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self.n_bytes = max(0, _highest() - self._before)


def _reset() -> None:
    try:
        RESET.write_text("5")
    except OSError:
        return


def _highest() -> int:
    """Bytes of the high-water mark, or what the process holds now where there is none."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else int(psutil.Process().memory_info().rss)
