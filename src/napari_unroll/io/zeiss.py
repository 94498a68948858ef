"""Zeiss (Xradia) tomographies, ``.txrm`` and ``.xrm``: OLE containers with one stream per picture and per fact.

The stored pixel size is that of a voxel, in µm; angles are degrees, distances mm. A growing angle turns the sample
counter-clockwise, so that ours are their negatives. X and Y shifts are the columns and rows by which a picture is to
be moved. Source: the public readers of dxchange (https://github.com/data-exchange/dxchange, ``read_txrm``) and CIL
(https://github.com/TomographicImaging/CIL, ``ZEISSDataReader``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import container, rare
from napari_unroll.io.number_files import locate
from napari_unroll.io.reader import Reader
from napari_unroll.io.tiff_stack import load_field
from napari_unroll.io.tilts import varying
from napari_unroll.io.views import Views
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan

TYPES: dict[float, np.dtype] = {5: np.dtype("<u2"), 10: np.dtype("<f4")}
PER_GROUP = 100
"""Pictures in one storage ImageData1, ImageData2, ..."""
CONE = 1
"""Of ImageInfo/XrayGeometry; parallel beams of synchrotrons have others."""


@dataclass(frozen=True)
class Container:
    """The streams of an OLE file that hold numbers; whether they fit what is asked of them is checked before reading."""

    name: str
    ole: Any

    def array(self, stream: str, dtype: np.dtype | str, n: int) -> np.ndarray | None:
        """The first ``n`` numbers of a stream; None where there is no such stream or it has fewer."""
        dtype = np.dtype(dtype)
        if not self.ole.exists(stream) or self.ole.get_size(stream) < n * dtype.itemsize:
            return None
        return np.frombuffer(self.ole.openstream(stream).read(n * dtype.itemsize), dtype)

    def number(self, stream: str, dtype: str, default: float | None = None) -> float:
        """One number. Raises FileFormatError where it is missing and there is no default."""
        found = self.array(stream, dtype, 1)
        if found is not None:
            return float(found[0])
        if default is None:
            raise FileFormatError(
                f"{self.name} has no {stream}; it is no complete Zeiss file. Copy or export it again."
            )
        return default

    def picture(self, stream: str, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
        """One picture (row, column)."""
        found = self.array(stream, dtype, shape[0] * shape[1])
        if found is None or len(found) < shape[0] * shape[1]:
            raise FileFormatError(
                f"{self.name} lacks {stream} of {shape[0]} × {shape[1]} pixels; the recording or the copy was interrupted."
            )
        return found.reshape(shape)

    def dtype(self, stream: str) -> np.dtype:
        """The type of pictures by its code."""
        code = self.number(stream, "<i4")
        if code not in TYPES:
            raise FileFormatError(f"{self.name} holds pictures of type {code:g}; expected 5 (uint16) or 10 (float32).")
        return TYPES[code]


def _open(path: Path) -> Any:
    return rare("olefile", "An OLE container such as Zeiss .txrm").OleFileIO(path)


def sniff(path: Path) -> bool:
    """Whether there are pictures and facts about them."""
    with _open(path) as ole:
        return bool(ole.exists("ImageInfo/ImageWidth") and ole.exists("ImageData1/Image1"))


def read(path: Path, options: FieldOptions) -> Scan:
    """Line integrals of a tomography, corrected by its reference picture where it has one."""
    with _open(path) as ole:
        file = Container(path.name, ole)
        n, rows, cols = _shape(file)
        if n == 1:
            raise FileFormatError(
                f"{path.name} is a single picture of {rows} × {cols} pixels: one view, or a reference. Give the tomography that "
                "it belongs to (.txrm), where it may be option 'flats'."
            )
        dtype = file.dtype("ImageInfo/DataType")
        notes = ["Rows as stored; whether they count up or down is not in the file, so the volume may be mirrored."]
        flat = _reference(path, file, (rows, cols), options, notes)
        dark = 0.0 if options.darks is None else _checked(_given(options.darks, path), (rows, cols), options.darks)
        corrected = bool(file.number("ImageInfo/OriginalDataRefCorrected", "<i4", 0))
        if options.values == "auto" and not corrected:
            options = options.model_copy(update={"values": "counts"})
        facts = _facts(file, n, notes)
        if facts.angles is None and options.angles is None:
            raise MissingInformation(
                f"{path.name} holds {n} pictures without angles: a reconstructed volume, a mosaic, or give option 'angles'.",
                "angles",
            )
        views = Views(
            shape=(n, rows, cols),
            load=lambda i: file.picture(f"ImageData{i // PER_GROUP + 1}/Image{i + 1}", dtype, (rows, cols)),
            flat=flat,
            dark=dark,
            integer=dtype.kind == "u",
        )
        return circular_scan(path, views, facts, options, notes)


def _shape(file: Container) -> tuple[int, int, int]:
    counts = [file.number(f"ImageInfo/{name}", "<i4") for name in ("NoOfImages", "ImageHeight", "ImageWidth")]
    if not all(1 <= n <= MOST for n in counts):
        raise FileFormatError(
            f"{file.name} declares {counts[0]:g} pictures of {counts[1]:g} × {counts[2]:g} pixels; expected 1 to {MOST:,} "
            "each. It is damaged."
        )
    n, rows, cols = (int(n) for n in counts)
    taken = file.number("ImageInfo/ImagesTaken", "<i4", n)
    return min(n, int(taken)) if taken >= 1 else n, rows, cols


def _reference(
    path: Path, file: Container, shape: tuple[int, int], options: FieldOptions, notes: list[str]
) -> np.ndarray | float | None:
    if options.flats is not None:
        notes.append(f"Flats from {options.flats}.")
        return _checked(_given(options.flats, path), shape, options.flats)
    if file.number("ImageInfo/OriginalDataRefCorrected", "<i4", 0):
        notes.append("The file says that its pictures are already corrected by the reference.")
        return None
    if not file.ole.exists("ReferenceData/Image"):
        notes.append("The file has no reference picture; give one by option 'flats', which may be an .xrm file.")
        return None
    notes.append("Corrected by the reference picture of the file.")
    return file.picture("ReferenceData/Image", file.dtype("ReferenceData/DataType"), shape).astype(np.float32)


def _given(text: str, beside: Path) -> np.ndarray | float:
    """The field that an option names, which may be a single Zeiss picture."""
    path = locate(text, beside)
    if not path.is_file() or container(path) != "ole":
        return load_field(text, beside)
    with _open(path) as ole:
        file = Container(path.name, ole)
        shape = _shape(file)[1:]
        return file.picture("ImageData1/Image1", file.dtype("ImageInfo/DataType"), shape).astype(np.float32)


def _checked(field: np.ndarray | float, shape: tuple[int, int], name: str) -> np.ndarray | float:
    if isinstance(field, np.ndarray) and field.shape != shape:
        raise FileFormatError(f"{name} has {field.shape} pixels but the views {shape}; give the fields of this scan.")
    return field


def _facts(file: Container, n_views: int, notes: list[str]) -> Facts:
    stored = file.array("ImageInfo/Angles", "<f4", n_views)
    angles = None if stored is None else varying(stored, n_views)
    voxel = file.number("ImageInfo/PixelSize", "<f4") * 1e-3
    origin, detector = (_distance(file, f"ImageInfo/{name}Distance") for name in ("StoRA", "DtoRA"))
    cone = file.number("ImageInfo/XrayGeometry", "<i4", CONE) == CONE and origin is not None and detector is not None
    shifts = [file.array(f"Alignment/{name}-Shifts", "<f4", n_views) for name in ("Y", "X")]
    notes.append(f"The file calls it a {'cone' if cone else 'parallel'} beam with voxels of {voxel * 1e3:.5g} µm.")
    common: dict[str, Any] = {
        "angles": None if angles is None else -angles,
        "angle_unit": "degrees",
        "angles_source": "the file, negated: the sample turns",
        "shifts_px": None if any(s is None for s in shifts) else np.stack(shifts, 1).astype(np.float64),  # type: ignore
    }
    if not cone or origin is None or detector is None:
        return Facts(pixel_mm=voxel, **common)
    magnified = voxel * (origin + detector) / origin
    return Facts(pixel_mm=magnified, source_origin_mm=origin, source_detector_mm=origin + detector, **common)


def _distance(file: Container, stream: str) -> float | None:
    """Distance in mm, whatever its sign; None where it is not known."""
    found = file.array(stream, "<f4", 1)
    return None if found is None or not found[0] else abs(float(found[0]))


READER = Reader(
    name="zeiss",
    title="Zeiss Xradia tomography",
    expects="streams ImageInfo and ImageData1 in an OLE container",
    container="ole",
    extensions=(".txrm", ".xrm"),
    sniff=sniff,
    read=read,
    options=FieldOptions,
    holds="angles, distances, shifts of every view, voxel size, reference picture, or one by option `flats`; needs `olefile`",
)
