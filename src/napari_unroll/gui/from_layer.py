"""A scan from an ordinary napari layer: the records of what the layer does not say, and the scans they make.

Knows arrays and geometries; no widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import ScanError
from napari_unroll.physics.simulate import simulate_image
from napari_unroll.record import Record
from napari_unroll.scan.blurring import Blur
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.grids import default_grid
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.preprocess_ct import minus_log
from napari_unroll.scan.scan import Provenance, Scan

TURNS_DEG = 360_000.0
"""A thousand turns."""


class LayerGeometry(Record):
    """How the projections in a layer (view, row, column) were taken."""

    beam: Literal["parallel", "cone"] = Field("parallel", description="Shape of the beam.")
    first_angle: float = Field(
        0.0, ge=-TURNS_DEG, le=TURNS_DEG, description="Angle of the first view.", json_schema_extra={"unit": "°"}
    )
    angle_range: float = Field(
        180.0,
        ge=-TURNS_DEG,
        le=TURNS_DEG,
        description="Angle covered by all views; the last view is one step before its end.",
        json_schema_extra={"unit": "°"},
    )
    pixel_mm: float = Field(1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Detector pixel pitch.")
    source_origin_mm: float = Field(
        150.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Source to rotation axis; cone beam only."
    )
    source_detector_mm: float = Field(
        450.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Source to detector; cone beam only."
    )
    axis_px: float | None = Field(
        None, ge=-MOST, le=MOST, description="Detector column of the rotation axis. Empty: the middle of the detector."
    )
    values: Literal["line-integrals", "transmission"] = Field(
        "line-integrals", description="Line integrals (after −log), or transmission between 0 and 1."
    )


class LayerImage(Blur):
    """How the image in a layer (y, x) or (z, y, x) was measured, or shall be."""

    holds: Literal["truth", "measurement"] = Field(
        "truth", description="truth: the layer is blurred and given noise here; measurement: it is what was measured."
    )
    noise: float = Field(
        0.01, ge=0, le=10, description="Standard deviation of the noise over the largest value; for a truth only."
    )


def image_grid(shape: Sequence[int], scale: Sequence[float], translate: Sequence[float]) -> VolumeGrid:
    """The pixels of an image layer (y, x) or (z, y, x), whose scale and translation count as millimetres."""
    missing = 3 - len(shape)
    counts = (*[1] * missing, *(int(n) for n in shape))
    spacing = (*[1.0] * missing, *(float(s) for s in scale))
    origin = (*[0.0] * missing, *(float(t) for t in translate))
    center = tuple(o + 0.5 * (n - 1) * s for o, n, s in zip(origin, counts, spacing, strict=True))
    return VolumeGrid(shape=counts, spacing_mm=spacing, center_mm=center)  # type: ignore[arg-type]


def scan_from_image(data: np.ndarray, grid: VolumeGrid, options: LayerImage, name: str = "layer") -> Scan:
    """A scan of the image ``data`` on ``grid``: simulated where it is the truth, else as it was measured.

    A truth whose edges are no multiples of the factor loses its last rows and columns. Raises ScanError where it cannot be
    one.
    """
    if np.iscomplexobj(data):
        raise ScanError(f"An image needs real values; {name} is complex. Take its magnitude.")
    values = np.ascontiguousarray(data, dtype=np.float32).reshape(grid.shape)
    if options.holds == "truth":
        box = tuple(slice(0, n - n % f) for n, f in zip(grid.shape, options.factors, strict=True))
        grid = grid.restrict(box)  # type: ignore[arg-type]
        return simulate_image(values[box], options.sampling(grid.shape), options.noise, 0, name, grid)
    shape = tuple(n * f for n, f in zip(grid.shape, options.factors, strict=True))
    return Scan(
        measurements=values, geometry=options.sampling(shape), grid=grid.resample(shape), name=name,  # type: ignore[arg-type]
        notes=(f"A measured image from the layer {name}; its blur was typed in.",),
        provenance=Provenance(source="", format="napari layer"),
    )  # fmt: skip


def scan_from_array(data: np.ndarray, options: LayerGeometry, name: str = "layer") -> Scan:
    """A CT scan of ``data`` (view, row, column); raises ScanError where it cannot be one."""
    if data.ndim != 3 or np.iscomplexobj(data):
        raise ScanError(f"Projections need a real layer with axes (view, row, column); {name} has shape {data.shape}.")
    values = np.ascontiguousarray(data, dtype=np.float32)
    if options.values == "transmission":
        values = minus_log(values)
    n_views, rows, columns = values.shape
    angles = np.deg2rad(options.first_angle + options.angle_range * np.arange(n_views) / n_views)
    axis = (columns - 1) / 2 if options.axis_px is None else options.axis_px
    common = {
        "angles_rad": angles,
        "detector_shape": (rows, columns),
        "pixel_mm": (options.pixel_mm, options.pixel_mm),
        "detector_offset_mm": (0.0, ((columns - 1) / 2 - axis) * options.pixel_mm),
    }
    geometry: ConeBeam | ParallelBeam
    if options.beam == "parallel":
        geometry = ParallelBeam.circular(**common)
    else:
        geometry = ConeBeam.circular(
            **common,
            source_origin_mm=options.source_origin_mm,
            source_detector_mm=options.source_detector_mm,
        )
    notes = (f"Projections from the layer {name}; the geometry was typed in.",)
    return Scan(
        measurements=values, geometry=geometry, grid=default_grid(geometry), name=name, notes=notes,
        provenance=Provenance(source="", format="napari layer"),
    )  # fmt: skip
