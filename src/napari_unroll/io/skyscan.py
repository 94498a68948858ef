"""Bruker SkyScan scans: settings in a ``.log`` file and one TIFF per view, opened by that file or by the folder that holds it.

Its pixel size is that of a voxel. Angles are the numbers of the files times the step; the line of the optical axis counts
from the bottom of a picture. Source of the settings' meaning: TIGRE's ``BrukerDataLoader`` (https://github.com/CERN/TIGRE).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_unroll.errors import MissingInformation
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import container, read_head
from napari_unroll.io.ini import Settings, first_line
from napari_unroll.io.numbered import Numbered, fields, only_one
from napari_unroll.io.reader import Reader
from napari_unroll.scan.scan import Scan

SECTION = "acquisition"
STEP = "rotation step (deg)"
PARALLEL_MM = 10_000.0
"""Sources further away than this stand for a parallel beam."""


def sniff(path: Path) -> bool:
    """Whether there are a section System and a rotation step."""
    head = read_head(path, 100_000).lower()
    return first_line(path).startswith(("[system]", "#")) and b"[acquisition]" in head and STEP.encode() in head


def _logs_in(folder: Path) -> list[Path]:
    logs = (p for p in sorted(folder.iterdir()) if p.suffix.lower() == ".log" and p.is_file() and p.stat().st_size)
    return [p for p in logs if container(p) == "text" and sniff(p)]


def sniff_folder(path: Path) -> bool:
    """Whether such a .log file lies in it."""
    return bool(_logs_in(path))


def read_folder(path: Path, options: FieldOptions) -> Scan:
    """The scan of the only .log file of a scan in a folder."""
    return read(only_one(path, _logs_in(path)), options)


def read(path: Path, options: FieldOptions) -> Scan:
    """Line integrals of pictures that the scanner has corrected, or of counts with the fields of the options."""
    settings = Settings.load(path)
    views = _views(path, settings)
    n_declared = settings.count(SECTION, "number of files")
    shape = (settings.count(SECTION, "number of rows"), settings.count(SECTION, "number of columns"))
    flat, dark = fields(path, options)
    notes = [views.note(n_declared)]
    if flat is None:
        corrected = settings.text(SECTION, "flat field correction").lower() == "on"
        notes.append(f"The scanner {'has' if corrected else 'has not'} corrected the pictures by its flat field.")
    if options.values == "auto":
        options = options.model_copy(update={"values": "counts"})
    facts = _facts(path, settings, shape, views.numbers, options, notes)
    return circular_scan(path, views.views(shape, flat, dark), facts, options, notes)


def _views(path: Path, settings: Settings) -> Numbered:
    prefix = settings.text(SECTION, "filename prefix")
    return Numbered.find(path.parent, prefix, 0, settings.count(SECTION, "number of files"), path.name)


def beside(path: Path) -> list[Path]:
    """The files of the views."""
    return _views(path, Settings.load(path)).files


def _facts(
    path: Path,
    settings: Settings,
    shape: tuple[int, int],
    numbers: np.ndarray,
    options: FieldOptions,
    notes: list[str],
) -> Facts:
    step, start = settings.number(SECTION, STEP), settings.number(SECTION, "scanning start angle", default=0.0)
    direction = settings.text(SECTION, "rotation direction", "gantry direction").upper()
    sense = -1.0 if direction == "CW" else 1.0
    voxel = settings.number(SECTION, "image pixel size (um)", "scaled image pixel size (um)") * 1e-3
    origin = settings.number(SECTION, "object to source (mm)")
    detector = settings.number(SECTION, "camera to source (mm)", "camera to source", default=0.0)
    parallel = origin > PARALLEL_MM
    detector = options.source_detector_mm or detector
    if not (parallel or detector):
        raise MissingInformation(
            f"{path.name} lacks Camera to Source; give option 'source_detector_mm'.", "source_detector_mm"
        )
    notes.append(
        f"Rotation direction {direction or 'not said'}, steps of {step:g}°; if edges are doubled, set option 'reverse'."
    )
    line = settings.number(SECTION, "optical axis (line)", default=shape[0] / 2 + 0.5)
    _tell(settings, notes)
    return Facts(
        angles=sense * (start + step * numbers),
        angle_unit="degrees",
        angles_source="the file numbers and the rotation step",
        pixel_mm=voxel if parallel else voxel * detector / origin if origin else np.inf,
        source_origin_mm=None if parallel else origin,
        source_detector_mm=None if parallel else detector,
        shifts_px=np.tile([0.0 if parallel else line - (shape[0] + 1) / 2, 0.0], (len(numbers), 1)),
    )


def _tell(settings: Settings, notes: list[str]) -> None:
    """What the settings say and this reader does not apply."""
    shift = settings.number("reconstruction", "postalignment", default=0.0)
    if shift:
        notes.append(
            f"NRecon moved the axis by {shift:g} pixels (Postalignment); that is not applied, see option 'axis_px'."
        )
    parts = settings.number(SECTION, "number of connected scans", default=1)
    positions = settings.number(SECTION, "number of horizontal offset positions", default=1)
    if parts > 1 or positions > 1:
        notes.append(f"One part of a scan in {parts:g} connected parts and {positions:g} offset positions.")


READER = Reader(
    name="skyscan",
    title="Bruker SkyScan .log",
    expects="text with [Acquisition] and Rotation Step (deg)",
    container="text",
    extensions=(".log",),
    sniff=sniff,
    read=read,
    options=FieldOptions,
    beside=beside,
    holds="distances, voxel size, rotation step and direction, optical axis; views in numbered TIFF files",
)
FOLDER_READER = Reader(
    name="skyscan-folder",
    title="folder of a SkyScan scan",
    expects="the .log file of a scan in it",
    container="folder",
    extensions=(),
    sniff=sniff_folder,
    read=read_folder,
    options=FieldOptions,
    holds="what the .log holds",
)
