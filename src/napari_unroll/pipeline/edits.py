"""What was changed of a scan after it was read: the volume, and the place of the rotation axis.

A scan's provenance holds every change, so that a command can make it again. Values only; knows no files and no windows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from napari_unroll.errors import ScanError
from napari_unroll.record import Record
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.scan import Scan

CtGeometry = ConeBeam | ParallelBeam
Count = Annotated[int, Field(ge=1, le=MOST)]
Length = Annotated[float, Field(ge=SHORTEST_MM, le=LONGEST_MM)]
Position = Annotated[float, Field(ge=-LONGEST_MM, le=LONGEST_MM)]


MOVES = ("axis_shift_px", "row_shift_px", "turn_deg", "tilt_deg")
"""The changes of the scanner's place, each of which adds up."""


class Edits(Record):
    """Changes of an X-ray scan; what is not set stays as it was read."""

    shape: tuple[Count, Count, Count] | None = Field(None, description="Voxels (z, y, x) of the volume.")
    spacing_mm: tuple[Length, Length, Length] | None = Field(None, description="Edges (z, y, x) of a voxel.")
    center_mm: tuple[Position, Position, Position] | None = Field(None, description="Centre (z, y, x) of the volume.")
    axis_shift_px: float = Field(
        0.0, ge=-MOST, le=MOST, description="Columns by which the detector is moved, which moves the rotation axis."
    )
    row_shift_px: float = Field(
        0.0, ge=-MOST, le=MOST, description="Rows by which the detector is moved along the axis."
    )
    turn_deg: float = Field(
        0.0, ge=-180, le=180, description="Degrees by which the detector is turned in its plane: the axis leans on it."
    )
    tilt_deg: float = Field(
        0.0,
        ge=-80,
        le=80,
        description="Degrees by which source and detector are turned about the detector's rows: the axis leans along the beam, "
        "as in laminography.",
    )


def edits_of(scan: Scan) -> Edits:
    """All changes that were made of a scan since it was read."""
    return Edits(**dict(scan.provenance.edits))


def edited(scan: Scan, edits: Edits) -> Scan:
    """The scan with further changes, which its provenance adds to the earlier ones.

    Raises ScanError for scans without views, and where the volume does not fit the geometry.
    """
    asked = edits.model_dump(exclude_defaults=True)
    if not asked:
        return scan
    known = edits_of(scan)
    moves = {name: getattr(known, name) + asked.pop(name) for name in MOVES if name in asked}
    if moves:
        unmoved = _moved_back(ct_geometry(scan), known)
        scan = replace(scan, geometry=moved(unmoved, known.model_copy(update=moves)))
    if asked:
        ct_geometry(scan)
        parts = {name: getattr(scan.grid, name) for name in ("shape", "spacing_mm", "center_mm")}
        scan = scan.with_grid(VolumeGrid(**(parts | asked)))
    made = known.model_copy(update=asked | moves)
    return _noted(scan, made.model_dump(exclude_defaults=True))


def _noted(scan: Scan, made: dict[str, Any]) -> Scan:
    return replace(scan, provenance=replace(scan.provenance, edits=tuple(made.items())))


def ct_geometry(scan: Scan) -> CtGeometry:
    """The geometry of an X-ray scan. Raises ScanError for another one."""
    if not isinstance(scan.geometry, (ConeBeam, ParallelBeam)):
        raise ScanError(
            "Only X-ray scans have an axis and a volume of their own; those of MRI and images are measured."
        )
    return scan.geometry


def moved(geometry: CtGeometry, edits: Edits) -> CtGeometry:
    """The geometry with its scanner tilted, then its detector turned about its middle and moved along its rows and columns."""
    turned = _turned(_tilted(geometry, np.deg2rad(edits.tilt_deg)), np.deg2rad(edits.turn_deg))
    return shifted(turned, edits.axis_shift_px, edits.row_shift_px)


def _moved_back(geometry: CtGeometry, edits: Edits) -> CtGeometry:
    """What :func:`moved` was given."""
    unturned = _turned(shifted(geometry, -edits.axis_shift_px, -edits.row_shift_px), -np.deg2rad(edits.turn_deg))
    return _tilted(unturned, -np.deg2rad(edits.tilt_deg))


def shifted(geometry: CtGeometry, columns: float, rows: float = 0.0) -> CtGeometry:
    """The geometry with its detector moved by pixels along u and v; the axis then falls on a lower column."""
    vectors = np.array(geometry.vectors)
    vectors[:, 3:6] += columns * vectors[:, 6:9] + rows * vectors[:, 9:12]
    return type(geometry)(vectors=vectors, detector_shape=geometry.detector_shape)


def _turned(geometry: CtGeometry, angle_rad: float) -> CtGeometry:
    """The geometry with u and v turned in their plane, from u to v."""
    if not angle_rad:
        return geometry
    vectors = np.array(geometry.vectors)
    u, v = geometry.vectors[:, 6:9], geometry.vectors[:, 9:12]
    ratio = np.linalg.norm(u, axis=1, keepdims=True) / np.linalg.norm(v, axis=1, keepdims=True)
    vectors[:, 6:9] = np.cos(angle_rad) * u + np.sin(angle_rad) * ratio * v
    vectors[:, 9:12] = np.cos(angle_rad) * v - np.sin(angle_rad) / ratio * u
    return type(geometry)(vectors=vectors, detector_shape=geometry.detector_shape)


def _tilted(geometry: CtGeometry, angle_rad: float) -> CtGeometry:
    """The geometry with source (or ray) and detector of each view turned about the line through the origin along its u."""
    if not angle_rad:
        return geometry
    parts = geometry.vectors.reshape(-1, 4, 3)
    about = parts[:, 2:3] / np.linalg.norm(parts[:, 2:3], axis=2, keepdims=True)
    along = (parts * about).sum(axis=2, keepdims=True) * about
    across = parts - along
    tilted = along + np.cos(angle_rad) * across + np.sin(angle_rad) * np.cross(about, across)
    return type(geometry)(vectors=tilted.reshape(-1, 12), detector_shape=geometry.detector_shape)
