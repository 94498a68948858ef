"""What computes: versions of the software, the machine in words, and the memory that a piece of work took."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from napari_unroll import __version__

PACKAGES = ("torch", "deepinv", "numpy", "numba", "scipy", "astra-toolbox")
SAMPLING_SECONDS = 0.02
GLIBC = {"trim threshold": (-1, 65536), "mmap threshold": (-3, 65536), "arenas": (-8, 2)}
"""Options of glibc's ``mallopt`` (malloc.h): number and value."""


def software() -> dict[str, str]:
    """Versions of this package, Python, the system and the packages that computed."""
    found = {"napari-unroll": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor, threads and CUDA device, in words."""
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{_processor()}, {torch.get_num_threads()} of {psutil.cpu_count()} threads{gpu}"


def _processor() -> str:
    """Its model as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def give_back_freed() -> None:
    """From here on freed memory goes back to the system at once (glibc); what was freed before goes now.

    glibc keeps freed blocks of up to 32 MiB, so that a process is larger than what it holds: by half with volumes of 96³ voxels.
    """
    gc.collect()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for number, value in GLIBC.values():
            libc.mallopt(number, value)
        libc.malloc_trim(0)


class PeakMemory:
    """``with PeakMemory(device) as peak: …``; ``peak.n_bytes`` at any time, also inside.

    On CUDA the most that torch held at once since the start. On the CPU by how much the process's own memory grew at most,
    looked at every ``seconds``: not every system keeps a high-water mark that can be reset. That is what is held at once only
    after :func:`give_back_freed`; pages of files, where volumes on disk lie, are the system's (Linux; elsewhere they count).
    """

    def __init__(self, device: str = "cpu", seconds: float = SAMPLING_SECONDS) -> None:
        self.device, self._seconds = torch.device(device), seconds
        self._process = psutil.Process()
        self._before = self._highest = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    @property
    def n_bytes(self) -> int:
        """Bytes so far, or of the whole piece of work once it has ended."""
        if self.device.type != "cuda" and not self._ended.is_set():
            self._look()
        return self._highest - self._before

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._before = self._highest = self._own()
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            self._look()

    def _look(self) -> None:
        cuda = self.device.type == "cuda"
        now = torch.cuda.max_memory_allocated(self.device) if cuda else self._own()
        self._highest = max(self._highest, int(now))

    def _own(self) -> int:
        """Resident bytes that are no file's."""
        memory = self._process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))
