"""From arrays, stored volumes and scans to napari's images: contrast, levels of large ones, magnitude and phase.

Makes layers and puts them nowhere; knows nothing of viewers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from napari_unroll.gui.placement import placement, projections_placement
from napari_unroll.io.volume import CHANNELS
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

if TYPE_CHECKING:
    from napari_unroll.io.ome_zarr import StoredVolume

LARGE, COARSEST = 512**3, 256
"""Volumes of more voxels are shown by their levels: each a view of every second voxel, the last of at most so long edges."""
DIVERGING = "coolwarm"


def contrast(values: np.ndarray, low: float = 0.5, high: float = 99.8) -> tuple[float, float]:
    """Robust limits from about 100,000 samples; never empty."""
    sample = np.asarray(values).ravel()
    sample = sample[:: max(1, sample.size // 100_000)]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    lo, hi = (float(v) for v in np.percentile(sample, [low, high]))
    return (lo, hi) if hi > lo else (lo, lo + max(1e-6, abs(lo)))


def log_map(values: np.ndarray, floor: float) -> np.ndarray:
    """log10 of |values| relative to the largest, not below ``floor``; for viewing only."""
    magnitude = np.abs(values)
    return np.log10(np.maximum(magnitude / max(float(magnitude.max()), 1e-30), floor)).astype(np.float32)


def real(values: np.ndarray) -> np.ndarray:
    """What is shown of a volume: the magnitude of a complex one."""
    return np.abs(values) if np.iscomplexobj(values) else values


def volume_images(name: str, values: np.ndarray, grid: VolumeGrid, **kwargs: Any) -> list[Image]:
    """A volume (z, y, x) as an image, a complex one as its phase, hidden, and its magnitude."""
    if not np.iscomplexobj(values):
        return [_image(values, name, grid, **kwargs)]
    return [phase_image(name, values, grid), _image(np.abs(values), name, grid, **kwargs)]


def phase_image(name: str, values: np.ndarray, grid: VolumeGrid) -> Image:
    """The phase of a complex volume, hidden."""
    phase = _image(np.angle(values), f"{name} · phase", grid, colormap="hsv", contrast_limits=(-np.pi, np.pi))
    phase.visible = False
    return phase


def stored_images(name: str, stored: StoredVolume) -> list[Image]:
    """The same of a volume on disk, which is read where it is looked at; ``refresh`` shows what came since."""
    images = []
    for channel, levels in reversed(stored.levels.items()):
        is_phase = channel == CHANNELS[1]
        limits = (-np.pi, np.pi) if is_phase else contrast(np.asarray(levels[-1]))
        image = Image(
            **in_levels(levels),
            name=f"{name} · phase" if is_phase else name,
            colormap="hsv" if is_phase else "gray",
            contrast_limits=limits,
            visible=not is_phase,
            **placement(stored.grid),
        )
        images.append(image)
    return images


def _image(values: np.ndarray, name: str, grid: VolumeGrid, **kwargs: Any) -> Image:
    kwargs.setdefault("contrast_limits", contrast(values))
    data = np.asarray(values, dtype=np.float32)
    return Image(**in_levels(levels(data) if data.size > LARGE else [data]), name=name, **placement(grid), **kwargs)


def in_levels(levels: Sequence[Any]) -> dict[str, Any]:
    """The layer arguments that show arrays of falling resolution, or the only one as it is."""
    return {"data": levels if len(levels) > 1 else levels[0], "multiscale": len(levels) > 1}


def levels(values: np.ndarray) -> list[np.ndarray]:
    """A volume (z, y, x) and views of every second, fourth, … voxel of it, which take no memory."""
    found = [values]
    while max(found[-1].shape) > COARSEST:
        z, y, x = (2 if n > 1 else 1 for n in found[-1].shape)
        found.append(found[-1][::z, ::y, ::x])
    return found


def scan_layers(scan: Scan) -> list[Image]:
    """The measurements as layers: projections, the logarithm of k-space over all coils, or the measured image."""
    if isinstance(scan.geometry, (CartesianSampling, NonCartesianSampling)):
        total = np.sqrt((np.abs(scan.measurements) ** 2).sum(0))
        total = scan.geometry.on_grid(total) if isinstance(scan.geometry, NonCartesianSampling) else total
        floor = float(total.max()) * 1e-5 or 1.0
        values = np.log10(np.maximum(total, floor)).astype(np.float32)
        return [Image(values, name=f"{scan.name} · k-space (log10)", **placement(scan.grid))]
    data = np.asarray(scan.measurements, dtype=np.float32)
    if isinstance(scan.geometry, BlurredSampling):
        return [_image(data, f"{scan.name} · measured", scan.grid.resample(data.shape))]
    limits = contrast(data)
    return [Image(data, name=f"{scan.name} · projections", contrast_limits=limits, **projections_placement(scan))]
