"""Is a scan like what a network was trained on? Numbers of its card (``domain``) beside those of the scan, in sentences.

A card says {"geometries": [names], and ranges [low, high] of QUANTITIES}. Ranges are widened by their slack.
What a card leaves open is not compared; a card without the record knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_unroll.errors import WeightsError
from napari_unroll.methods.problem import Method
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam
from napari_unroll.scan.kspace_noise import relative_deviation
from napari_unroll.scan.photon_counts import photons
from napari_unroll.scan.scan import Scan

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


def _density(scan: Scan) -> float | None:
    """Few views for many voxels leave more open than a network has learned to fill in (docs/decisions/far_lags.md)."""
    views = _views(scan)
    return None if views is None else views / max(scan.grid.shape[1:])


def _acceleration(scan: Scan) -> float | None:
    return scan.geometry.acceleration if isinstance(scan.geometry, CartesianSampling) else None


def _photons(scan: Scan) -> float | None:
    found = photons(scan)
    return None if found is None else found.value


QUANTITIES = {
    "views": _Quantity("views", 1.1, _views),
    "views_per_voxel": _Quantity("views per voxel across", 1.5, _density),
    "planes": _Quantity("planes", 4.0, lambda scan: float(scan.grid.shape[0])),
    "coils": _Quantity("coils", 1.0, lambda scan: float(len(scan.measurements)) if scan.modality == "mri" else None),
    "acceleration": _Quantity("times acceleration", 1.1, _acceleration),
    "voxel_mm": _Quantity("mm voxels in the plane", 1.1, lambda scan: max(scan.grid.spacing_mm[1:])),
    "photons": _Quantity("photons per pixel", 2.0, _photons),
    "noise": _Quantity("of the brightest voxel as noise", 2.0, relative_deviation),
}


def outside(card: dict[str, Any], scan: Scan) -> list[str]:
    """What of the scan the card's network was not trained for, a sentence each; none where it says nothing."""
    domain = _plausible(card.get("domain"))
    return [*_other_geometry(domain, scan), *(s for name in QUANTITIES if (s := _other_number(name, domain, scan)))]


def _plausible(domain: Any) -> dict[str, Any]:
    """What of a card's record is names and ranges; anything else says nothing."""
    if not isinstance(domain, dict):
        return {}
    names = domain.get("geometries")
    known = {"geometries": names} if isinstance(names, list) and all(isinstance(n, str) for n in names) else {}
    return known | {name: domain[name] for name in QUANTITIES if _is_range(domain.get(name))}


def _is_range(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(isinstance(n, int | float) for n in found)


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
        weights = method.find_weights(scan, params or method.params())
    except WeightsError:
        return []
    return outside(dict(getattr(weights, "card", {})), scan)
