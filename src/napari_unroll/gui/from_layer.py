"""A scan from an ordinary napari layer: the record of what the layer does not say, and the scan it makes.

Knows arrays and geometries; no widgets.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import ScanError
from napari_unroll.record import Record
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
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
