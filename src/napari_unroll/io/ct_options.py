"""The options that CT readers share: what a file may leave out, and how much of it to load.

Records only. Angles are degrees here, at the border; everything behind it is radians.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_unroll.io.reader import ReaderOptions
from napari_unroll.record import FileName
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM

LARGEST_AIR = 1e12
"""Of either sign; counts and transmission need at least its inverse."""


class ViewOptions(ReaderOptions):
    """How much is loaded, and what the numbers mean."""

    view_step: int = Field(default=1, ge=1, le=MOST, description="Use every n-th view.")
    views: str | None = Field(
        default=None, description="Only these views, first:last, counted from 0, both of them too; empty: all."
    )
    rows: str | None = Field(
        default=None,
        description="Only these detector rows, first:last, counted from 0, both of them too: a slab of the volume; empty: all.",
    )
    bin: int = Field(default=1, ge=1, le=64, description="Average blocks of n × n detector pixels.")
    max_size: int | None = Field(
        default=None,
        ge=4,
        le=MOST,
        description="Longest edge of the volume in voxels; above it voxels get larger. Empty: no limit.",
    )
    hot_pixels: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Repair pixels further than this many robust deviations from their neighbours; 0: off.",
    )


class RepairOptions(ViewOptions):
    """Which pixels are wrong; each repair is off unless asked for (``io/repairs.py`` in this order, before binning)."""

    bad_pixels: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Repair pixels that are bad in every view: mean or spread over the views further than this many "
        "robust deviations from the neighbours'; 10 is careful, 0: off. It may take fine bright grains on the axis with it.",
    )
    zingers: float = Field(
        default=0.0,
        ge=0,
        le=1e3,
        description="Repair spots brighter than their surroundings by more than this fraction; choose it above the "
        "noise; 0: off.",
    )


class CorrectionOptions(RepairOptions):
    """What disturbed the measurement; each is off unless asked for (``io/corrections.py`` in this order)."""

    scatter: float = Field(
        default=0.0, ge=0, le=0.9, description="Scattered light as a fraction of the open beam, subtracted; 0: off."
    )
    delta_beta: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Paganin phase retrieval with this ratio δ/β; needs energy_kev and propagation_mm; 0: off.",
    )
    energy_kev: float | None = Field(default=None, ge=0.1, le=1e5, description="Energy of the X-rays in keV.")
    propagation_mm: float | None = Field(
        default=None,
        ge=SHORTEST_MM,
        le=LONGEST_MM,
        description="Sample to detector in mm, for phase retrieval. Empty: from the distances of a cone beam.",
    )
    stripes: Literal["off", "offset", "sorting", "all"] = Field(
        default="off",
        description="Remove stripes of sinograms, which become rings: a constant offset of each column, also stripes that "
        "vary (by sorting), or all of them, wide and dead ones too.",
    )
    stripe_size: int = Field(
        default=9, ge=3, le=1001, description="Window in columns; more than twice as wide as the widest stripe."
    )
    beam_hardening: float = Field(
        default=0.0, ge=-10, le=10, description="a₂ of p + a₂ p² + a₃ p³ for line integrals p; 0: off."
    )
    beam_hardening_3: float = Field(default=0.0, ge=-10, le=10, description="a₃ of the same polynomial; 0: off.")
    find_beam_hardening: bool = Field(
        default=False,
        description="Estimate a₂: the one with which all views see the same mass. Needs an object that is not round, in air.",
    )


REPAIRS = tuple(name for name in RepairOptions.model_fields if name not in ViewOptions.model_fields)
"""The options that repair views before they are binned."""
CORRECTIONS = tuple(name for name in CorrectionOptions.model_fields if name not in ViewOptions.model_fields)
"""The options that are corrections, or belong to one."""


class ValueOptions(CorrectionOptions):
    """What the stored numbers are."""

    values: Literal["auto", "counts", "transmission", "line-integrals"] = Field(
        default="auto",
        description="What the file holds: detector counts, transmission (0…1) or line integrals (after −log).",
    )
    air: float | None = Field(
        default=None,
        ge=-LARGEST_AIR,
        le=LARGEST_AIR,
        description="Value of empty air: transmission is divided by it, line integrals have it subtracted. "
        "Empty: measured at the detector's borders.",
    )


class CircularOptions(ValueOptions):
    """The geometry of a circular scan, or per-view vectors."""

    angles: FileName | None = Field(
        default=None,
        description="Angle of each view: a text or .npy file, or a range first:last such as 0:180 (degrees).",
    )
    angle_unit: Literal["auto", "degrees", "radians"] = Field(
        default="auto", description="Unit of the angles in the file."
    )
    reverse: bool = Field(default=False, description="The sample turned the other way round (mirrors the volume).")
    pixel_mm: float | None = Field(
        default=None, ge=SHORTEST_MM, le=LONGEST_MM, description="Detector pixel pitch in mm."
    )
    axis_px: float | None = Field(
        default=None,
        ge=-MOST,
        le=MOST,
        description="Detector column of the rotation axis, in unbinned pixels. Empty: from the file or estimated.",
    )
    rotation_axis: Literal["vertical", "horizontal"] = Field(
        default="vertical", description="Direction of the rotation axis in the pictures."
    )
    source_origin_mm: float | None = Field(
        default=None, ge=SHORTEST_MM, le=LONGEST_MM, description="Source to rotation axis in mm; makes a cone beam."
    )
    source_detector_mm: float | None = Field(
        default=None, ge=SHORTEST_MM, le=LONGEST_MM, description="Source to detector in mm; makes a cone beam."
    )
    vectors: FileName | None = Field(
        default=None, description="ASTRA vectors (one row of 12 numbers per view, in mm): a text or .npy file."
    )
    beam: Literal["auto", "cone", "parallel"] = Field(
        default="auto",
        description="What the vectors are: cone_vec or parallel3d_vec. Auto: parallel if the rays have length 1.",
    )


class FieldOptions(CircularOptions):
    """Flat and dark fields in files of their own."""

    flats: FileName | None = Field(
        default=None, description="Flat fields: a TIFF or .npy file, a folder of TIFFs, or one number."
    )
    darks: FileName | None = Field(
        default=None, description="Dark fields: a TIFF or .npy file, a folder of TIFFs, or one number."
    )
