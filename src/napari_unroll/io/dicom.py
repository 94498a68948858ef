"""A DICOM series or an enhanced image of several frames as a volume with its place in mm. Needs pydicom, of the extra ``formats``.

What names a patient is never kept. Knows volumes; nothing of scans.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check, stage
from napari_unroll.io.dicom_slices import Slice, frames_of, slices_of
from napari_unroll.io.guards import check_memory, check_packed, quiet, rare, read_head
from napari_unroll.io.volume import Volume
from napari_unroll.scan.geometry import VolumeGrid

UNEVEN = 0.02
"""Largest part of the distance of slices by which one of the distances may differ."""
KEPT = ("Modality", "Manufacturer", "ManufacturerModelName", "SeriesDescription", "ConvolutionKernel", "KVP")
"""Attributes that go into the record; none of them names a person."""
TITLE = "A DICOM series"


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM after its preamble."""
    return path.is_file() and read_head(path, 132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, by name."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_dicom(path)]


def read(path: Path) -> Volume:
    """The slices of a folder, or of a file with several, or of the folder of a file with one; values are rescaled.

    They lie in the order of their positions; the volume's axes are the normal of the slices, their columns and their rows.
    Raises FileFormatError where there are several series, or slices are missing or do not fit to each other.
    """
    with warnings.catch_warnings(), quiet("pydicom"):
        warnings.simplefilter("ignore")
        name, headers = _headers(path)
        slices = [one for file, header in headers.items() for one in slices_of(file, header)]
        first, normal = slices[0], slices[0].normal
        slices.sort(key=lambda one: float(one.position_mm @ normal))
        spacing = (_step(name, slices, normal), *first.spacing_mm)
        values = _values(name, slices)
        in_plane = [0.5 * (n - 1) * s for n, s in zip(values.shape[1:], spacing[1:], strict=True)]
        center = 0.5 * (slices[0].position_mm + slices[-1].position_mm)
        center = center + in_plane[0] * first.along_columns + in_plane[1] * first.along_rows
        axes = (normal, first.along_columns, first.along_rows)
        grid = VolumeGrid(shape=values.shape, spacing_mm=spacing, center_mm=tuple(float(a @ center) for a in axes))  # type: ignore[arg-type]
        return Volume(values, grid, {"source": "DICOM series", **_kept(next(iter(headers.values())))})


def _kept(header: Any) -> dict[str, str]:
    return {name: str(header.get(name)) for name in KEPT if header.get(name) is not None}


def _headers(path: Path) -> tuple[str, dict[Path, Any]]:
    """What is read, by name, and the headers of its files without their pixels."""
    pydicom = rare("pydicom", TITLE)
    if path.is_file():
        alone = pydicom.dcmread(path, stop_before_pixels=True)
        if frames_of(alone) > 1:
            return path.name, {path: alone}
    folder = path if path.is_dir() else path.parent
    files = dicom_files(folder)
    if not files:
        raise FileFormatError(f"The folder {folder.name} holds no DICOM file; give the folder of one series.")
    headers = {}
    for file in files:
        check()
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" in header:
            headers[file] = header
    if not headers:
        raise FileFormatError(f"The DICOM files in {folder.name} hold no pictures.")
    series = {str(header.get("SeriesInstanceUID")) for header in headers.values()}
    if len(series) > 1:
        raise FileFormatError(f"{folder.name} holds {len(series)} DICOM series; keep one per folder.")
    return folder.name, headers


def _step(name: str, slices: list[Slice], normal: np.ndarray) -> float:
    """The distance of the slices in mm, after a look that they belong together."""
    first = slices[0]
    for one in slices:
        if not one.is_like(first):
            raise FileFormatError(
                f"{one.path.name} differs from {first.path.name} in size, direction or pixel spacing; keep one series."
            )
    if len(slices) == 1:
        return first.thickness_mm or first.spacing_mm[0]
    steps = np.diff([one.position_mm @ normal for one in slices])
    step = float(np.median(steps))
    if not step > 0 or np.abs(steps - step).max() > UNEVEN * step:
        raise FileFormatError(
            f"The slices in {name} are {steps.min():.4g} to {steps.max():.4g} mm apart; some are missing or doubled, or there "
            "are several images (times, echoes) of one place. Export one volume."
        )
    return step


def _values(name: str, slices: list[Slice]) -> np.ndarray:
    """The rescaled values of the slices (slice, row, column), each file read frame by frame."""
    pixels = rare("pydicom.pixels", TITLE)
    shape = (len(slices), *slices[0].shape)
    n_bytes = int(np.prod(shape, dtype=np.float64)) * 4
    check_packed(name, n_bytes, sum(file.stat().st_size for file in {one.path for one in slices}))
    check_memory(n_bytes, name)
    values = np.empty(shape, np.float32)
    stored = sorted(range(len(slices)), key=lambda k: (slices[k].path, slices[k].frame))
    with stage(len(slices), "reading slices") as done:
        read_so_far = itertools.count()
        for file, of_file in itertools.groupby(stored, key=lambda k: slices[k].path):
            for k, frame in zip(of_file, pixels.iter_pixels(file), strict=True):
                done(next(read_so_far))
                one = slices[k]
                if frame.shape != one.shape:
                    raise FileFormatError(
                        f"{file.name} holds pixels of shape {frame.shape}; expected grey values (row, column)."
                    )
                values[k] = frame * np.float32(one.slope) + np.float32(one.intercept)
    return values
