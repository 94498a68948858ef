"""What the header of a DICOM file says of its slices: one, or the frames of an enhanced CT or MR image.

Source: DICOM PS3.3 C.7.6.2 (position and orientation of the image plane), C.7.6.16 (functional groups of several frames),
C.11.1 (rescaling). Knows pydicom's headers, no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
"""The functional group in which a frame has an attribute that a single slice has by itself."""
NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class Slice:
    """A slice in a file: its frame there, its place and its values' scale.

    ``shape`` and ``spacing_mm`` are (row, column), ``along_rows`` and ``along_columns`` unit vectors (x, y, z) of the patient's
    frame, ``thickness_mm`` 0 where it is not known.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    position_mm: np.ndarray
    along_rows: np.ndarray
    along_columns: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float
    slope: float
    intercept: float

    @property
    def normal(self) -> np.ndarray:
        """Unit vector (x, y, z) across the slice."""
        return np.cross(self.along_rows, self.along_columns)

    def is_like(self, other: Slice) -> bool:
        """Whether size, direction and pixel spacing are the same."""
        mine, theirs = (np.concatenate([s.along_rows, s.along_columns, s.spacing_mm]) for s in (self, other))
        return self.shape == other.shape and bool(np.allclose(mine, theirs, rtol=1e-4, atol=1e-5))


def frames_of(header: Any) -> int:
    """How many frames a file has."""
    return int(header.get("NumberOfFrames") or 1)


def slices_of(file: Path, header: Any) -> list[Slice]:
    """The slices of a file. Raises FileFormatError where it does not say where one of them lies."""
    n = frames_of(header)
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    if n != len(own) and (n > 1 or own):
        raise FileFormatError(
            f"{file.name} holds {n} frames and the places of {len(own)}; an enhanced CT or MR image tells all of them. "
            "Export it again, or as a series of single slices."
        )
    return [_slice(file, header, k, own[k] if own else None) for k in range(n)]


def _slice(file: Path, header: Any, frame: int, own: Any) -> Slice:
    check()
    found = {name: _attribute(header, own, name) for name in GROUPS}
    if missing := [name for name in NEEDED if not found[name]]:
        raise FileFormatError(
            f"{file.name} does not say where it lies ({', '.join(missing)}); it is no slice of a volume."
        )
    row, column = np.asarray(found["ImageOrientationPatient"], float).reshape(2, 3)
    down, across = (float(s) for s in found["PixelSpacing"])
    return Slice(
        path=file,
        frame=frame,
        shape=(int(header.Rows), int(header.Columns)),
        position_mm=np.asarray(found["ImagePositionPatient"], float),
        along_rows=row,
        along_columns=column,
        spacing_mm=(down, across),
        thickness_mm=float(found["SliceThickness"] or 0),
        slope=float(1 if found["RescaleSlope"] is None else found["RescaleSlope"]),
        intercept=float(found["RescaleIntercept"] or 0),
    )


def _attribute(header: Any, own: Any, name: str) -> Any:
    """An attribute of a frame: from its own groups, else from those of all frames, else from the file; None without."""
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    for groups in (own, shared[0]):
        group = None if groups is None else groups.get(GROUPS[name])
        if group and group[0].get(name) is not None:
            return group[0].get(name)
    return header.get(name)
