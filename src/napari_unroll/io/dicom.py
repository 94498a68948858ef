"""A DICOM series, one file per slice, as a volume with its place in mm. Needs pydicom, of the extra ``formats``.

Source: DICOM PS3.3 C.7.6.2 (position and orientation of the image plane), C.11.1 (rescaling). What names a patient is
never kept. Knows volumes; nothing of scans.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check, stage
from napari_unroll.io.guards import check_memory, check_packed, quiet, rare, read_head
from napari_unroll.io.volume import Volume
from napari_unroll.scan.geometry import VolumeGrid

UNEVEN = 0.02
"""Largest part of the distance of slices by which one of the distances may differ."""
KEPT = ("Modality", "Manufacturer", "ManufacturerModelName", "SeriesDescription", "ConvolutionKernel", "KVP")
"""Attributes that go into the record; none of them names a person."""


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM after its preamble."""
    return path.is_file() and read_head(path, 132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, by name."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_dicom(path)]


@dataclass(frozen=True)
class Slice:
    """One file of a series: where it lies, and its attributes without the pixels."""

    path: Path
    header: Any
    position_mm: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.header.Rows), int(self.header.Columns)


def read(path: Path) -> Volume:
    """The slices of a folder, or of the folder of a file, in the order of their positions; values are rescaled.

    The volume's axes are the normal of the slices, their columns and their rows. Raises FileFormatError where there are
    several series, or slices are missing or do not fit to each other.
    """
    folder = path if path.is_dir() else path.parent
    with warnings.catch_warnings(), quiet("pydicom"):
        warnings.simplefilter("ignore")
        slices = _headers(folder)
        axes = _directions(slices[0])
        slices.sort(key=lambda one: float(one.position_mm @ axes[0]))
        spacing = (_step(folder, slices, axes[0]), *(float(s) for s in slices[0].header.PixelSpacing))
        values = _values(folder, slices)
        first, last = slices[0].position_mm, slices[-1].position_mm
        in_plane = [0.5 * (n - 1) * s for n, s in zip(values.shape[1:], spacing[1:], strict=True)]
        center = 0.5 * (first + last) + in_plane[0] * axes[1] + in_plane[1] * axes[2]
        grid = VolumeGrid(shape=values.shape, spacing_mm=spacing, center_mm=tuple(float(a @ center) for a in axes))  # type: ignore[arg-type]
        return Volume(values, grid, {"source": "DICOM series", **_kept(slices[0].header)})


def _kept(header: Any) -> dict[str, str]:
    return {name: str(header.get(name)) for name in KEPT if header.get(name) is not None}


def _headers(folder: Path) -> list[Slice]:
    files = dicom_files(folder)
    if not files:
        raise FileFormatError(f"The folder {folder.name} holds no DICOM file; give the folder of one series.")
    pydicom = rare("pydicom", "A DICOM series")
    slices = []
    for file in files:
        check()
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" in header:
            slices.append(Slice(file, header, _position(file, header)))
    if not slices:
        raise FileFormatError(f"The DICOM files in {folder.name} hold no pictures.")
    series = {str(one.header.get("SeriesInstanceUID")) for one in slices}
    if len(series) > 1:
        raise FileFormatError(f"{folder.name} holds {len(series)} DICOM series; keep one per folder.")
    return slices


def _position(file: Path, header: Any) -> np.ndarray:
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise FileFormatError(f"{file.name} holds several frames in one file; export a series of single slices.")
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    if missing := [name for name in needed if not header.get(name)]:
        raise FileFormatError(
            f"{file.name} does not say where it lies ({', '.join(missing)}); it is no slice of a volume."
        )
    return np.asarray(header.ImagePositionPatient, float)


def _directions(one: Slice) -> np.ndarray:
    """Unit vectors (normal, along columns, along rows) in the patient's frame, (3, x y z)."""
    row, column = np.asarray(one.header.ImageOrientationPatient, float).reshape(2, 3)
    return np.stack([np.cross(row, column), column, row])


def _step(folder: Path, slices: list[Slice], normal: np.ndarray) -> float:
    """The distance of the slices in mm, after a look that they belong together."""
    first = slices[0].header
    for one in slices:
        same = all(one.header.get(name) == first.get(name) for name in ("ImageOrientationPatient", "PixelSpacing"))
        if one.shape != slices[0].shape or not same:
            raise FileFormatError(
                f"{one.path.name} differs from {slices[0].path.name} in size, direction or pixel spacing; keep one series."
            )
    if len(slices) == 1:
        return float(first.get("SliceThickness") or first.PixelSpacing[0])
    steps = np.diff([one.position_mm @ normal for one in slices])
    step = float(np.median(steps))
    if not step > 0 or np.abs(steps - step).max() > UNEVEN * step:
        raise FileFormatError(
            f"The slices in {folder.name} are {steps.min():.4g} to {steps.max():.4g} mm apart; some are missing or doubled."
        )
    return step


def _values(folder: Path, slices: list[Slice]) -> np.ndarray:
    pydicom = rare("pydicom", "A DICOM series")
    shape = (len(slices), *slices[0].shape)
    n_bytes = int(np.prod(shape, dtype=np.float64)) * 4
    check_packed(folder.name, n_bytes, sum(one.path.stat().st_size for one in slices))
    check_memory(n_bytes, folder.name)
    values = np.empty(shape, np.float32)
    with stage(len(slices), "reading slices") as done:
        for k, one in enumerate(slices):
            done(k)
            full = pydicom.dcmread(one.path)
            slope, intercept = (float(full.get(f"Rescale{name}", d)) for name, d in (("Slope", 1), ("Intercept", 0)))
            pixels = full.pixel_array
            if pixels.shape != one.shape:
                raise FileFormatError(f"{one.path.name} holds pixels of shape {pixels.shape}; expected grey values.")
            values[k] = pixels * np.float32(slope) + np.float32(intercept)
    return values
