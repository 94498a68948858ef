"""From lazily read views and what a file says about the geometry to a CT scan.

The one path that every CT reader ends in: load the views, find the axis, build the geometry and the grid, and note
what was read, inferred and missing. It opens no measurement files itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.corrections import Optics, correct, harden, optics_of
from napari_unroll.io.ct_options import CircularOptions, ViewOptions
from napari_unroll.io.number_files import angles_from, guess_unit, locate, to_radians, vectors_from
from napari_unroll.io.views import Views, chosen_views, line_integrals, part_of
from napari_unroll.scan import preprocess_ct as ct
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.grids import bin_geometry, crop_geometry, default_grid, limit_grid
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM, is_length
from napari_unroll.scan.scan import Origin, Scan


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a file says about its geometry, right or wrong.

    ``angles`` are in ``angle_unit`` ("" when the file does not say). Numbers are checked where they are used, so that an
    option can take the place of a wrong one. ``vectors`` (view, 12) of a ``beam`` say all; they give way to the circular
    orbit of the other facts where an option of :data:`CIRCULAR` asks for one. ``shifts_px`` (view, 2) are the rows and
    columns by which each picture is to be moved.
    """

    angles: np.ndarray | None = None
    angle_unit: str = ""
    angles_source: str = "the file"
    angles_file: Path | None = None
    pixel_mm: float | None = None
    axis_px: float | None = None
    source_origin_mm: float | None = None
    source_detector_mm: float | None = None
    vectors: np.ndarray | None = None
    beam: Literal["auto", "cone", "parallel"] = "auto"
    shifts_px: np.ndarray | None = None


CIRCULAR = ("angles", "reverse", "pixel_mm", "axis_px", "rotation_axis", "source_origin_mm", "source_detector_mm")
"""Options that describe a circular orbit; vectors of a file give way to them."""


def circular_scan(path: Path, views: Views, facts: Facts, options: CircularOptions, notes: list[str]) -> Scan:
    """The scan of a circular orbit, or of per-view vectors where the options name a file of them."""
    if min(views.shape) < 1:
        raise FileFormatError(f"{path.name} holds projections of shape {views.shape}: nothing to reconstruct.")
    views = views.transposed() if options.rotation_axis == "horizontal" else views
    notes.append("Read {} views of {} × {} pixels.".format(*views.shape))
    vectors = _vectors(path, views.shape[0], facts, options, notes)
    angles = find_angles(path, views.shape[0], facts, options, notes) if vectors is None else np.empty(0)
    chosen, rows = chosen_views(views.shape[0], options), part_of(views.shape[1], options.rows, "rows")
    geometry: ConeBeam | ParallelBeam
    if vectors is not None:
        geometry = _vector_geometry(vectors, views.shape, facts, options, notes).subset(chosen)
        optics = optics_of(geometry)
    else:
        optics = Optics.of_distances(_length(path, facts, options, "pixel_mm"), _distances(path, facts, options))
    if len(rows) < views.shape[1]:
        notes.append(f"Rows {rows[0]} to {rows[-1]} of {views.shape[1]}.")
    stack = line_integrals(views.cropped(rows), options, notes)
    correct(stack, options, optics.binned(options.bin), notes)
    if vectors is None:
        geometry = _circular_geometry(path, views.shape, stack, angles[chosen], facts, options, notes)
        geometry = _shifted(path, geometry, views.shape[0], facts, options, notes)
        _doubt_direction(stack, geometry, options, notes)
    geometry = bin_geometry(crop_geometry(geometry, rows), options.bin)
    harden(stack, geometry, options, notes)
    origins = _origins(facts, options, vectors is not None, [] if vectors is not None else notes)
    return finish(path, stack, geometry, options, notes, origins)


AXIS_ESTIMATED = "Rotation axis estimated"
"""How the note on an axis begins that the measurements told."""


def _origins(facts: Facts, options: CircularOptions, by_vectors: bool, notes: list[str]) -> dict[str, Origin]:
    """Where each fact of the geometry comes from, by its name in ``registry.summary``."""
    if by_vectors:
        told: Origin = "given" if options.vectors is not None else "read"
        return dict.fromkeys(("geometry", "angles deg", "pixel mm", "rotation axis column"), told)
    has_unit = bool(facts.angle_unit) or options.angle_unit != "auto" or facts.angles is None
    estimated = any(note.startswith(AXIS_ESTIMATED) for note in notes)
    found: dict[str, Origin] = {
        "angles deg": "given" if options.angles is not None else "read" if has_unit else "inferred",
        "pixel mm": _origin(options.pixel_mm, facts.pixel_mm),
        "rotation axis column": "inferred" if estimated else _origin(options.axis_px, facts.axis_px),
        "source to axis mm": _origin(options.source_origin_mm, facts.source_origin_mm),
        "source to detector mm": _origin(options.source_detector_mm, facts.source_detector_mm),
    }
    return {"geometry": found["source to axis mm"], **found}


def _origin(given: float | None, stored: float | None) -> Origin:
    return "given" if given is not None else "read" if stored is not None else "assumed"


def _vectors(path: Path, n_views: int, facts: Facts, options: CircularOptions, notes: list[str]) -> np.ndarray | None:
    if options.vectors is not None:
        notes.append(f"Projection vectors from {locate(options.vectors, path).name}.")
        return vectors_from(options.vectors, n_views, path)
    if facts.vectors is None:
        return None
    if asked := [name for name, _ in options.changed() if name in CIRCULAR]:
        notes.append(f"A circular orbit, as option {', '.join(asked)} asks, in place of the geometry of every view.")
        return None
    if facts.vectors.shape != (n_views, 12):
        raise FileFormatError(
            f"The vectors in {path.name} have shape {facts.vectors.shape}; expected 12 numbers for {n_views} views."
        )
    notes.append("Projection vectors from the file.")
    return facts.vectors


def _doubt_direction(
    stack: np.ndarray, geometry: ConeBeam | ParallelBeam, options: CircularOptions, notes: list[str]
) -> None:
    along, across = ct.axis_direction(stack)
    if isinstance(geometry, ParallelBeam) and min(stack.shape) > 4 and across < 0.5 * along:
        other = "horizontal" if options.rotation_axis == "vertical" else "vertical"
        notes.append(f"The pictures look as if the rotation axis were {other}; if so set option 'rotation_axis'.")


def finish(
    path: Path,
    stack: np.ndarray,
    geometry: ConeBeam | ParallelBeam,
    options: ViewOptions,
    notes: list[str],
    origins: Mapping[str, Origin],
) -> Scan:
    """The scan on its default grid, limited to ``options.max_size``."""
    grid = limit_grid(default_grid(geometry), options.max_size)
    notes.append("Volume: {} × {} × {} voxels (z, y, x) of {:.4g} mm.".format(*grid.shape, grid.spacing_mm[0]))
    return Scan(
        measurements=stack,
        geometry=geometry,
        grid=grid,
        name=path.stem,
        notes=tuple(notes),
        origins=tuple(origins.items()),
    )


def find_angles(path: Path, n_views: int, facts: Facts, options: CircularOptions, notes: list[str]) -> np.ndarray:
    """Angles (view) in radians: from the options, else from the file, else from a file beside it; never invented."""
    unit = "" if options.angle_unit == "auto" else options.angle_unit
    if options.angles is not None:
        angles, source = angles_from(options.angles, n_views, path, unit or "degrees"), options.angles
    elif facts.angles is not None:
        angles, source = _stored_angles(path, n_views, facts, unit, notes), facts.angles_source
    elif facts.angles_file is not None:
        angles = angles_from(str(facts.angles_file), n_views, path, unit or "degrees")
        source = f"{facts.angles_file.name} beside the file"
    else:
        raise MissingInformation(
            f"{path.name} holds no angles, and they are never invented: give option 'angles', a file with one angle "
            f"per view ({n_views}) in degrees or a range first:last such as 0:180.",
            "angles",
        )
    angles = -angles if options.reverse else angles
    first, last = np.rad2deg(angles[0]), np.rad2deg(angles[-1])
    notes.append(f"Angles {first:.4g}° … {last:.4g}° from {source}{', turned round' if options.reverse else ''}.")
    return angles


def _stored_angles(path: Path, n_views: int, facts: Facts, unit: str, notes: list[str]) -> np.ndarray:
    stored = np.asarray(facts.angles, np.float64).ravel()
    if len(stored) != n_views:
        raise FileFormatError(
            f"{path.name} has {n_views} views but {len(stored)} angles ({facts.angles_source}); "
            "give the right ones with option 'angles'."
        )
    if not (unit or facts.angle_unit):
        unit = guess_unit(stored)
        notes.append(f"The angles have no unit; {unit} inferred from their range.")
    return to_radians(stored, unit or facts.angle_unit)


def _vector_geometry(
    vectors: np.ndarray, shape: tuple[int, int, int], facts: Facts, options: CircularOptions, notes: list[str]
) -> ConeBeam | ParallelBeam:
    beam = facts.beam if options.beam == "auto" and options.vectors is None else options.beam
    unit_rays = np.allclose(np.linalg.norm(vectors[:, :3], axis=1), 1.0, atol=1e-4)
    parallel = beam == "parallel" or (beam == "auto" and unit_rays)
    told = "as told" if options.beam != "auto" else "from the file"
    how = "inferred from the length of the rays" if beam == "auto" else told
    notes.append(f"{'Parallel' if parallel else 'Cone'} beam ({how}).")
    return (ParallelBeam if parallel else ConeBeam)(vectors=vectors, detector_shape=(shape[1], shape[2]))


def _circular_geometry(
    path: Path,
    shape: tuple[int, int, int],
    stack: np.ndarray,
    angles: np.ndarray,
    facts: Facts,
    options: CircularOptions,
    notes: list[str],
) -> ConeBeam | ParallelBeam:
    pixel = _length(path, facts, options, "pixel_mm")
    if pixel is None:
        pixel = 1.0
        notes.append("No pixel size known: 1 mm assumed, so lengths are pixels and attenuation is per pixel.")
    distances = _distances(path, facts, options)
    axis = _axis_column(path, shape[2], stack, angles, distances is None, facts, options, notes)
    offset = (0.0, ((shape[2] - 1) / 2 - axis) * pixel)
    common: dict[str, Any] = {
        "angles_rad": angles, "detector_shape": shape[1:], "pixel_mm": (pixel, pixel), "detector_offset_mm": offset,
    }  # fmt: skip
    if distances is None:
        notes.append("Parallel beam; give source_origin_mm and source_detector_mm for a cone beam.")
        return ParallelBeam.circular(**common)
    notes.append("Cone beam, source to axis {:.6g} mm, source to detector {:.6g} mm.".format(*distances))
    return ConeBeam.circular(**common, source_origin_mm=distances[0], source_detector_mm=distances[1])


def _shifted(
    path: Path,
    geometry: ConeBeam | ParallelBeam,
    n_views: int,
    facts: Facts,
    options: CircularOptions,
    notes: list[str],
) -> ConeBeam | ParallelBeam:
    """The geometry with every detector moved as its picture is to be."""
    if facts.shifts_px is None or not np.any(facts.shifts_px):
        return geometry
    if facts.shifts_px.shape != (n_views, 2) or not (np.abs(facts.shifts_px) <= MOST).all():
        raise FileFormatError(
            f"{path.name} holds shifts of shape {facts.shifts_px.shape} or beyond {MOST:,} pixels; expected rows and columns "
            f"for each of {n_views} views. It is damaged."
        )
    shifts = facts.shifts_px[chosen_views(n_views, options)]
    shifts = shifts[:, ::-1] if options.rotation_axis == "horizontal" else shifts
    vectors = np.array(geometry.vectors)
    vectors[:, 3:6] += shifts[:, 1:] * vectors[:, 6:9] + shifts[:, :1] * vectors[:, 9:12]
    notes.append(f"Every view moved by its shift in the file, up to {np.abs(shifts).max():.3g} pixels.")
    return type(geometry)(vectors=vectors, detector_shape=geometry.detector_shape)


def _length(path: Path, facts: Facts, options: CircularOptions, name: str) -> float | None:
    """The length given as an option, else the file's; MissingInformation where that is none."""
    given, stored = getattr(options, name), getattr(facts, name)
    if given is None and stored is not None and not is_length(stored):
        raise MissingInformation(
            f"{path.name} says {name} = {stored:g}; expected a length from {SHORTEST_MM:g} to {LONGEST_MM:g} mm. "
            f"Give the right one with option '{name}'.",
            name,
        )
    return given if given is not None else stored


def _distances(path: Path, facts: Facts, options: CircularOptions) -> tuple[float, float] | None:
    origin, detector = (_length(path, facts, options, n) for n in ("source_origin_mm", "source_detector_mm"))
    if (origin is None) != (detector is None):
        missing = "source_origin_mm" if origin is None else "source_detector_mm"
        raise MissingInformation(f"A cone beam needs both distances; give option '{missing}' too.", missing)
    return None if origin is None or detector is None else (origin, detector)


def _axis_column(
    path: Path,
    n_cols: int,
    stack: np.ndarray,
    angles: np.ndarray,
    parallel: bool,
    facts: Facts,
    options: CircularOptions,
    notes: list[str],
) -> float:
    given = options.axis_px if options.axis_px is not None else facts.axis_px
    if given is not None and not abs(given) <= MOST:
        raise MissingInformation(
            f"{path.name} says that the rotation axis is at column {given:g} of {n_cols}; give the right one with option "
            "'axis_px'.",
            "axis_px",
        )
    if given is not None:
        notes.append(
            f"Rotation axis at column {given:.5g} ({'given' if options.axis_px is not None else 'from the file'})."
        )
        return given
    found = ct.rotation_axis(stack, angles) if parallel else None
    if found is not None:
        column = options.bin * found + (options.bin - 1) / 2
        notes.append(f"{AXIS_ESTIMATED} at column {column:.5g} from opposite views; set option 'axis_px' to change.")
        return column
    why = "no opposite views to find it from" if parallel else "not estimated for cone beams"
    notes.append(f"Rotation axis assumed at the middle column, {(n_cols - 1) / 2:g} ({why}); set option 'axis_px'.")
    return (n_cols - 1) / 2
