"""Is a scan like what a network was trained on? Numbers of its card (``domain``) beside those of the scan, in sentences.

A card says {"geometries": [names], and ranges [low, high] of views, coils, acceleration, voxel_mm, noise}. Ranges are widened by
SLACK. What a card leaves open is not compared; a card without the record knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_unroll.errors import WeightsError
from napari_unroll.methods.problem import Method
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam
from napari_unroll.scan.preprocess_mri import low_resolution_images
from napari_unroll.scan.scan import Scan, once_per_scan

GEOMETRIES = {
    "ConeBeam": "cone beam", "ParallelBeam": "parallel beam", "CartesianSampling": "Cartesian k-space",
    "NonCartesianSampling": "k-space along a trajectory", "BlurredSampling": "blurred images",
}  # fmt: skip


@dataclass(frozen=True)
class _Quantity:
    """A number of a scan: how it is called, by how much it may leave a range, and how it is found (None: not of this scan)."""

    title: str
    slack: float
    of: Callable[[Scan], float | None]


def _views(scan: Scan) -> float | None:
    return float(scan.geometry.n_views) if isinstance(scan.geometry, ConeBeam | ParallelBeam) else None


def _acceleration(scan: Scan) -> float | None:
    return scan.geometry.acceleration if isinstance(scan.geometry, CartesianSampling) else None


@once_per_scan
def noise_level(scan: Scan) -> float | None:
    """Standard deviation of Cartesian k-space over the brightest voxel of its coils' root sum of squares.

    From the median of the tenth of the samples that lies furthest out, where there is little but noise; the voxel is that of an
    image from the middle of k-space. None for other scans.
    """
    geometry = scan.geometry
    if not isinstance(geometry, CartesianSampling):
        return None
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in geometry.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.broadcast_to(z**2 + y**2 + x**2, geometry.shape)[geometry.mask]
    outer = np.flatnonzero(geometry.mask)[radius >= np.quantile(radius, 0.9)]
    samples = np.abs(scan.measurements.reshape(len(scan.measurements), -1)[:, outer])
    images = low_resolution_images(scan.measurements, 16.0)
    brightest = float(np.linalg.norm(images, axis=0).max())
    return float(np.median(samples)) / np.sqrt(np.log(2)) / max(brightest, 1e-30)


QUANTITIES = {
    "views": _Quantity("views", 1.1, _views),
    "coils": _Quantity("coils", 1.0, lambda scan: float(len(scan.measurements)) if scan.modality == "mri" else None),
    "acceleration": _Quantity("times acceleration", 1.1, _acceleration),
    "voxel_mm": _Quantity("mm voxels in the plane", 1.1, lambda scan: max(scan.grid.spacing_mm[1:])),
    "noise": _Quantity("of the brightest voxel as noise", 2.0, noise_level),
}


def outside(card: dict[str, Any], scan: Scan) -> list[str]:
    """What of the scan the card's network was not trained for, a sentence each; none where it says nothing."""
    domain = card.get("domain", {})
    return [*_other_geometry(domain, scan), *(s for name in QUANTITIES if (s := _other_number(name, domain, scan)))]


def _other_geometry(domain: dict[str, Any], scan: Scan) -> list[str]:
    own, known = type(scan.geometry).__name__, domain.get("geometries")
    if not known or own in known:
        return []
    trained = " and ".join(GEOMETRIES.get(name, name) for name in known)
    return [f"The network was trained for {trained}; this scan is {GEOMETRIES[own]}."]


def _other_number(name: str, domain: dict[str, Any], scan: Scan) -> str:
    if name not in domain:
        return ""
    (low, high), quantity = domain[name], QUANTITIES[name]
    value = quantity.of(scan)
    if value is None or low / quantity.slack <= value <= high * quantity.slack:
        return ""
    known = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return f"The network was trained for {known} {quantity.title}; this scan has {value:.3g}."


def foreign(method: Method, scan: Scan, params: Any = None) -> list[str]:
    """The same of the weights that a method would take for the scan; none for methods without weights."""
    if method.find_weights is None:
        return []
    try:
        weights = method.find_weights(scan.modality, params or method.params())
    except WeightsError:
        return []
    return outside(dict(getattr(weights, "card", {})), scan)
