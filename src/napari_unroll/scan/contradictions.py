"""What in a scan does not fit together: angles against views, axis and pixel against detector, k-space against its middle and maps.

Sentences for the user, who decides; nothing is changed. Knows geometries and measurements; no files.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam
from napari_unroll.scan.grids import axis_column
from napari_unroll.scan.preprocess_mri import low_resolution_images
from napari_unroll.scan.scan import Scan

FEW_DEG, MANY_DEG = 7.0, 2000.0
"""A turn in radians called degrees is 6.28; a half turn in degrees called radians is 10,313."""
CUT = 0.15
"""Of the strongest column's mean: what the outermost columns hold where the object reaches beyond the detector."""
SHORT = 16
"""Samples along an axis of k-space; its middle says nothing along shorter ones."""
AWAY = 0.125
"""Of an axis of k-space: how far the strongest sample may lie from the middle."""
UNEXPLAINED = 0.5
"""Of the energy of coil images of low resolution: what coil maps may leave."""
SMOOTH = 16.0
"""Samples across that those images are made of."""


def contradictions(scan: Scan) -> list[str]:
    """One sentence for each pair of facts of a scan that do not fit; none for images and k-space along trajectories."""
    geometry = scan.geometry
    if isinstance(geometry, CartesianSampling):
        return [sentence for sentence in (_middle(scan), _maps(scan)) if sentence]
    if not isinstance(geometry, (ConeBeam, ParallelBeam)):
        return []
    found = (_angles(np.rad2deg(np.unwrap(geometry.angles_rad))), _axis(geometry), _opening(geometry), _cut(scan))
    return [sentence for sentence in found if sentence]


def _angles(degrees: np.ndarray) -> str:
    n, span = len(degrees), float(np.ptp(degrees))
    if n < 4:
        return ""
    steps = np.diff(degrees)
    step = float(np.median(steps))
    if n > 10 and 0 < span < FEW_DEG:
        return f"{n} views cover only {span:.4g}°: are the angles radians that were taken for degrees?"
    if span > MANY_DEG and abs(step) < 180 and n * abs(step) > MANY_DEG * np.sqrt(n):
        return f"{n} views cover {span:.5g}°: are the angles degrees that were taken for radians?"
    if (still := int((np.abs(steps) < 1e-3 * abs(step)).sum())) and step:
        return f"{still} of {n} views have the angle of the view before them; the angles may not belong to these views."
    if step and abs(abs(degrees[-1] - degrees[0]) - (n - 1) * abs(step)) > 1.5 * abs(step):
        total = (n - 1) * abs(step)
        return (
            f"{n} views in steps of {abs(step):.4g}° make {total:.5g}°, but the angles go over {span:.5g}°: views are "
            "missing, or the angles are of another scan."
        )
    return ""


def _axis(geometry: ConeBeam | ParallelBeam) -> str:
    column, n = axis_column(geometry), geometry.detector_shape[1]
    if -0.5 <= column <= n - 0.5:
        return ""
    return (
        f"The rotation axis falls on column {column:.5g}, outside the detector's {n} columns; check axis_px or offsets."
    )


def _opening(geometry: ConeBeam | ParallelBeam) -> str:
    """Pixels against distances: fans of scanners are narrower than 65°, and a volume seen from within is refused."""
    if not isinstance(geometry, ConeBeam):
        return ""
    width, distance = geometry.pixel_mm[1] * geometry.detector_shape[1], geometry.source_detector_mm
    fan = 2 * np.rad2deg(np.arctan(0.5 * width / distance))
    if fan <= 65:
        return ""
    return (
        f"The detector is {width:.4g} mm wide at {distance:.4g} mm from the source, a fan of {fan:.0f}°; check pixel_mm "
        "and the distances, and their units."
    )


def _cut(scan: Scan) -> str:
    """The field of view against the object."""
    columns = np.asarray(scan.measurements, np.float32).mean(axis=(0, 1))
    width = max(1, len(columns) // 100)
    left, right = float(columns[:width].mean()), float(columns[-width:].mean())
    if min(left, right) <= CUT * float(columns.max()):
        return ""
    geometry = scan.geometry
    assert isinstance(geometry, (ConeBeam, ParallelBeam))
    shrink = geometry.source_origin_mm / geometry.source_detector_mm if isinstance(geometry, ConeBeam) else 1.0
    view = geometry.pixel_mm[1] * len(columns) * shrink
    return (
        f"The object reaches beyond the field of view of {view:.4g} mm at both borders of the detector (or air is not "
        "0): expect wrong values, above all near the rim."
    )


def _middle(scan: Scan) -> str:
    """k-space against its middle, where signals are strongest."""
    strength: np.ndarray = sum(np.abs(coil) for coil in scan.measurements)
    peak = np.unravel_index(int(strength.argmax()), strength.shape)
    off = {
        axis: int(at) - n // 2
        for axis, at, n in zip("zyx", peak, strength.shape, strict=True)
        if n >= SHORT and abs(int(at) - n // 2) > AWAY * n
    }
    if not off:
        return ""
    where = ", ".join(f"{n:+d} along {axis}" for axis, n in off.items())
    return (
        f"The strongest sample of k-space lies {where} from the middle: k = 0 may lie in the corner (option "
        "centred=false), or axes may be in another order (option axes)."
    )


def _maps(scan: Scan) -> str:
    """Coil maps against the coils' images: what a single image times the maps cannot be."""
    if scan.csm is None or len(scan.measurements) < 2:
        return ""
    images, maps = low_resolution_images(scan.measurements, SMOOTH), scan.csm
    combined = (maps.conj() * images).sum(0) / np.maximum((np.abs(maps) ** 2).sum(0), 1e-12)
    seen = np.abs(maps).sum(0) > 0
    left = float((np.abs(images - maps * combined) ** 2)[:, seen].sum())
    share = left / max(float((np.abs(images) ** 2)[:, seen].sum()), 1e-30)
    if share <= UNEXPLAINED:
        return ""
    return (
        f"The coil maps leave {share:.0%} of the coils' images unexplained: they may be of another scan, in another order of "
        "coils, or mirrored; leave them out to have them estimated."
    )
