"""Where arrays lie in millimetres: from grids to the arguments of napari's layers, and back.

Every volume lies where its grid says (scale = spacing, translate = position of voxel 0), so layers of different
resolution overlap. Knows layers; nothing of what they show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pint
from napari.layers import Layer

from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.grids import magnification
from napari_unroll.scan.scan import Scan

AXIS_LABELS = ("z", "y", "x")
ROLE, IN_MM = "napari-unroll", "napari-unroll.mm"
"""Keys of the metadata of our layers, which names their role, and of what is drawn over them: both are in mm."""


def placement(grid: VolumeGrid) -> dict[str, Any]:
    """The layer arguments that put an array where ``grid`` lies."""
    return {"scale": grid.spacing_mm, "translate": grid.origin_mm, "units": "mm", "axis_labels": AXIS_LABELS}


def coarse_placement(grid: VolumeGrid, block: int) -> dict[str, Any]:
    """The layer arguments for an array with one value per ``block`` voxels of ``grid`` along every axis."""
    scale = tuple(s * block for s in grid.spacing_mm)
    shift = tuple(o + 0.5 * (block - 1) * s for o, s in zip(grid.origin_mm, grid.spacing_mm, strict=True))
    return {"scale": scale, "translate": shift, "units": "mm"}


def values_of(layer: Layer) -> np.ndarray:
    """The array of a layer, the finest level of one that has several; of one on disk what numpy can read it from."""
    data: np.ndarray = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return data


def grid_of(layer: Layer) -> VolumeGrid:
    """The grid on which a volume layer lies; numbers without a unit of length count as mm."""
    factors, shape = np.array([in_mm(unit) for unit in layer.units]), values_of(layer).shape
    step = (factors * layer.scale).tolist()
    return VolumeGrid(shape=shape, spacing_mm=tuple(step), center_mm=_center(shape, step, factors * layer.translate))  # type: ignore[arg-type]


def _center(shape: Sequence[int], step: Sequence[float], origin: Sequence[float]) -> tuple[float, ...]:
    """The middle of voxels of which the first lies at ``origin``."""
    return tuple(float(o + 0.5 * (n - 1) * s) for o, n, s in zip(origin, shape, step, strict=True))


def grid_of_arguments(shape: Sequence[int], arguments: Mapping[str, Any]) -> VolumeGrid:
    """The grid (z, y, x) in mm of a layer of two or three axes, by what napari hands to writers; without units in mm."""
    spacing = [float(s) for s in arguments.get("scale", np.ones(len(shape)))]
    origin = [float(t) for t in arguments.get("translate", np.zeros(len(shape)))]
    units = arguments.get("units") or "mm"
    factors = [in_mm(unit) for unit in ([units] * len(shape) if isinstance(units, str) else units)]
    step = [s * f for s, f in zip(spacing, factors, strict=True)]
    start = [o * f for o, f in zip(origin, factors, strict=True)]
    if len(shape) == 2:
        shape, step, start = [1, *shape], [min(step), *step], [0.0, *start]
    return VolumeGrid(shape=tuple(shape), spacing_mm=tuple(step), center_mm=_center(shape, step, start))  # type: ignore[arg-type]


def in_mm(unit: Any) -> float:
    """How many mm a unit of length is; 1 for what is no length."""
    return float(pint.get_application_registry().Quantity(1, unit).to("mm").magnitude) if _is_length(unit) else 1.0


def common_unit(layers: Iterable[Layer]) -> str:
    """The unit for what is in mm among ``layers``: pixels, with the same numbers, beside others that have no lengths.

    napari (0.9.2) uses no units where layers have different kinds of them, and warns of it whenever a layer comes or changes.
    """
    others = [layer for layer in layers if not lies_in_mm(layer)]
    return "mm" if all(_is_length(unit) for layer in others for unit in layer.units[-3:]) else "pixel"


def lies_in_mm(layer: Layer) -> bool:
    """Whether the numbers of a layer are ours, in mm."""
    return not layer.metadata.keys().isdisjoint({ROLE, IN_MM})


def _is_length(unit: Any) -> bool:
    return bool(pint.get_application_registry().Quantity(1, unit).check("[length]"))


def projections_placement(scan: Scan) -> dict[str, Any]:
    """Views stacked along z in the volume's steps about its middle, detector pixels as large as they are at the rotation axis."""
    geometry, grid = scan.geometry, scan.grid
    shrink = 1 / magnification(geometry)  # type: ignore[arg-type]
    pv, pu = (p * shrink for p in geometry.pixel_mm)  # type: ignore[union-attr]
    rows, columns = geometry.detector_shape  # type: ignore[union-attr]
    first = grid.center_mm[0] - 0.5 * (geometry.n_views - 1) * grid.spacing_mm[0]  # type: ignore[union-attr]
    translate = (first, -0.5 * (rows - 1) * pv, -0.5 * (columns - 1) * pu)
    scale = (grid.spacing_mm[0], pv, pu)
    return {"scale": scale, "translate": translate, "units": "mm", "axis_labels": AXIS_LABELS}
