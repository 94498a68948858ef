"""Nikon scans: settings in a ``.xtekct`` file and one TIFF per view, opened by that file or by the folder that holds it.

The picture is seen from the source with its first pixel at the top right. Source of the settings' meaning: CIL's
``NikonDataReader`` (https://github.com/TomographicImaging/CIL), which leaves the lists of angles (.ang, _ctdata.txt)
aside as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.ini import Settings, first_line
from napari_unroll.io.numbered import Numbered, fields, only_one
from napari_unroll.io.reader import Reader
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.turntable import Turntable

SECTION = "xtekct"


def sniff(path: Path) -> bool:
    """Whether it begins with the section XTekCT."""
    return first_line(path) == f"[{SECTION}]"


def _settings_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".xtekct" and p.is_file())


def sniff_folder(path: Path) -> bool:
    """Whether a .xtekct file lies in it."""
    return bool(_settings_in(path))


def read_folder(path: Path, options: FieldOptions) -> Scan:
    """The scan of the only .xtekct file in a folder."""
    settings = only_one(path, _settings_in(path))
    if not sniff(settings):
        raise FileFormatError(f"{settings.name} does not begin with [XTekCT]; it is damaged. Copy it again.")
    return read(settings, options)


def read(path: Path, options: FieldOptions) -> Scan:
    """Line integrals from counts and the white level."""
    settings = Settings.load(path)
    views = _views(path, settings)
    n_declared = settings.count(SECTION, "projections")
    shape = (settings.count(SECTION, "detectorpixelsy"), settings.count(SECTION, "detectorpixelsx"))
    flat, dark = fields(path, options)
    notes = [views.note(n_declared)]
    if flat is None:
        flat = settings.number(SECTION, "whitelevel")
        notes.append(f"Divided by the white level {flat:g} of the settings.")
    facts = _facts(settings, shape, views.numbers, notes)
    return circular_scan(path, views.views(shape, flat, dark), facts, options, notes)


def _folder(path: Path, settings: Settings) -> Path:
    """Where the views are: a folder named by the settings beneath their own, or their own."""
    named = [part for part in settings.text(SECTION, "inputfoldername").replace("\\", "/").split("/") if part]
    below = path.parent.joinpath(*(part for part in named if part not in (".", "..")))
    return below if below.is_dir() else path.parent


def _views(path: Path, settings: Settings) -> Numbered:
    prefix = settings.text(SECTION, "name") + settings.text(SECTION, "inputseparator")
    return Numbered.find(_folder(path, settings), prefix, 1, settings.count(SECTION, "projections"), path.name)


def beside(path: Path) -> list[Path]:
    """The files of the views."""
    return _views(path, Settings.load(path)).files


def _facts(settings: Settings, shape: tuple[int, int], numbers: np.ndarray, notes: list[str]) -> Facts:
    def number(key: str, default: float | None = None) -> float:
        return settings.number(SECTION, key.lower(), default=default)

    to_object, to_detector = number("SrcToObject"), number("SrcToDetector")
    pixel = (number("DetectorPixelSizeY"), number("DetectorPixelSizeX"))
    offset, roll = _axis(settings, to_object / to_detector if to_detector else 0.0, shape[0] * pixel[0])
    tilt = np.deg2rad(number("ObjectTilt", 0.0))
    step, start = number("AngularStep"), number("InitialAngle", 0.0)
    angles = 180 - start - numbers * step
    notes += [
        f"Angles from InitialAngle {start:g}° and AngularStep {step:g}°; lists of angles beside the settings are not used.",
        f"Cone beam, source to axis {to_object:.6g} mm, source to detector {to_detector:.6g} mm.",
        f"The rotation axis lies {offset:.4g} mm beside the middle, rolled by {np.rad2deg(roll):.3g}°, tilted by "
        f"{np.rad2deg(tilt):.3g}°; set option 'axis_px' for another.",
    ]
    if number("DetectorOffsetX", 0.0) or number("DetectorOffsetY", 0.0):
        notes.append("The settings move the detector (DetectorOffsetX, Y); that is not applied, as in other readers.")
    table = Turntable(
        ray=np.zeros(3),
        detector=np.array([0, to_detector, 0]),
        u=np.array([pixel[1], 0, 0]),
        v=np.array([0, 0, pixel[0]]),
        axis=np.array([offset, to_object, 0]),
        axis_direction=np.array([np.sin(roll), -np.sin(tilt) * np.cos(roll), np.cos(tilt) * np.cos(roll)]),
    )
    magnified = to_detector / to_object if to_object else 0.0
    return Facts(
        angles=angles,
        angle_unit="degrees",
        angles_source="InitialAngle and AngularStep",
        pixel_mm=pixel[1],
        axis_px=(shape[1] - 1) / 2 + offset * magnified / pixel[1] if pixel[1] else None,
        source_origin_mm=to_object,
        source_detector_mm=to_detector,
        vectors=table.vectors(-np.deg2rad(angles)),
        beam="cone",
    )


def _axis(settings: Settings, shrunk: float, height_mm: float) -> tuple[float, float]:
    """Offset of the axis in mm and its roll in radians; older files give where it is seen at the detector's ends."""
    top, bottom = (settings.number(SECTION, f"centreofrotation{end}", default=0.0) for end in ("top", "bottom"))
    roll = -np.arctan2(top - bottom, height_mm)
    if settings.text(SECTION, "objectroll"):
        roll = np.deg2rad(settings.number(SECTION, "objectroll"))
    return settings.number(SECTION, "objectoffsetx", default=0.5 * (top + bottom) * shrunk), float(roll)


READER = Reader(
    name="nikon",
    title="Nikon .xtekct",
    expects="text that begins with [XTekCT]",
    container="text",
    extensions=(".xtekct",),
    sniff=sniff,
    read=read,
    options=FieldOptions,
    beside=beside,
    holds="distances, pixels, white level, InitialAngle and AngularStep, offset and roll of the axis; views in TIFF files",
)
FOLDER_READER = Reader(
    name="nikon-folder",
    title="folder of a Nikon scan",
    expects="a .xtekct file in it",
    container="folder",
    extensions=(),
    sniff=sniff_folder,
    read=read_folder,
    options=FieldOptions,
    beside=lambda folder: beside(_settings_in(folder)[0]),
    holds="what the .xtekct holds",
)
