"""What a training step costs: seconds and peak memory."""

from __future__ import annotations

from napari_unroll.environment import PeakMemory


class Meter:
    """Seconds per step since the last reading, and the peak memory of the training; a context manager, as PeakMemory."""

    def __init__(self, device: str, step: int, elapsed: float) -> None:
        self._peak, self._step, self._elapsed = PeakMemory(device), step, elapsed

    def __enter__(self) -> Meter:
        self._peak.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._peak.__exit__()

    def read(self, step: int, elapsed: float) -> dict[str, float]:
        """``seconds`` in all, ``seconds_per_step``, ``peak_memory_bytes`` (see PeakMemory)."""
        each = (elapsed - self._elapsed) / max(1, step - self._step)
        self._step, self._elapsed = step, elapsed
        return {"seconds": elapsed, "seconds_per_step": each, "peak_memory_bytes": float(self._peak.n_bytes)}
