"""CT projections in .npy and .npz files.

An .npz may carry its geometry under the names below; what it lacks comes from the options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.npy_header import Archive, load_npy, npy_header
from napari_unroll.io.number_files import angles_file
from napari_unroll.io.reader import Reader
from napari_unroll.io.tiff_stack import load_field
from napari_unroll.io.views import Views
from napari_unroll.scan.scan import Scan

VALUE_KINDS = {
    "line_integrals": "line-integrals",
    "sinogram": "line-integrals",
    "transmission": "transmission",
    "projections": "auto",
    "data": "auto",
    "arr_0": "auto",
}
"""Names of projections in an .npz, and what their values are."""
ANGLES = {"angles_deg": "degrees", "angles_rad": "radians", "angles": "", "theta": ""}
FLATS, DARKS = ("flats", "flat", "data_white"), ("darks", "dark", "data_dark")
VECTORS = ("vectors", "cone_vec", "parallel3d_vec")


class NumpyOptions(FieldOptions):
    """Geometry and fields, and the order of the axes."""

    order: Literal["view,row,column", "row,view,column"] = Field(
        default="view,row,column", description="Axes of the array; ASTRA's own order is row,view,column."
    )


def sniff_npy(path: Path) -> bool:
    """Real numbers of two or three axes."""
    header = npy_header(path)
    return header.dtype.kind in "biuf" and len(header.shape) in (2, 3)


def sniff_npz(path: Path) -> bool:
    """A real array under one of the known names."""
    archive = Archive(path)
    name = archive.first(*VALUE_KINDS)
    return (
        name is not None and archive.headers[name].dtype.kind in "biuf" and len(archive.headers[name].shape) in (2, 3)
    )


def read_npy(path: Path, options: NumpyOptions) -> Scan:
    """Projections of a plain array; the geometry comes from the options or a file of angles beside it."""
    return _scan(path, load_npy(path, lazy=True), Facts(angles_file=angles_file(path)), None, None, options, [])


def read_npz(path: Path, options: NumpyOptions) -> Scan:
    """Projections of an archive, with whatever geometry it carries."""
    archive = Archive(path)
    name = archive.first(*VALUE_KINDS)
    if name is None:
        raise FileFormatError(
            f"{path.name} holds {archive}; expected projections under one of: {', '.join(VALUE_KINDS)}."
        )
    notes = [f"Projections from '{name}' of the archive."]
    if options.values == "auto" and VALUE_KINDS[name] != "auto":
        options = options.model_copy(update={"values": VALUE_KINDS[name]})
        notes.append(f"Values taken as {VALUE_KINDS[name]} by their name.")
    fields = (_mean(archive, FLATS), _mean(archive, DARKS))
    return _scan(path, archive.lazily(name), _facts(path, archive), *fields, options, notes)


def _scan(
    path: Path,
    stack: np.ndarray,
    facts: Facts,
    flat: np.ndarray | float | None,
    dark: np.ndarray | float | None,
    options: NumpyOptions,
    notes: list[str],
) -> Scan:
    if stack.ndim == 2:
        stack = stack[:, None, :]
        notes.append("Two axes: one detector row per view.")
    elif options.order == "row,view,column":
        stack = stack.swapaxes(0, 1)
    flat = load_field(options.flats, path) if options.flats is not None else flat
    dark = load_field(options.darks, path) if options.darks is not None else dark
    _check_fields(stack.shape, flat, dark)
    views = Views(
        shape=(stack.shape[0], stack.shape[1], stack.shape[2]),
        load=lambda i: stack[i],
        flat=flat,
        dark=0.0 if dark is None else dark,
        integer=stack.dtype.kind in "iu",
    )
    return circular_scan(path, views, facts, options, notes)


def _check_fields(shape: tuple[int, ...], *fields: np.ndarray | float | None) -> None:
    for field in fields:
        if isinstance(field, np.ndarray) and field.shape != shape[1:]:
            raise FileFormatError(f"Flats and darks must have {shape[1:]} pixels like the views; got {field.shape}.")


def _mean(archive: Archive, names: tuple[str, ...]) -> np.ndarray | None:
    name = archive.first(*names)
    if name is None:
        return None
    values = archive.load(name)
    return np.asarray(values.mean(axis=0) if values.ndim == 3 else values, np.float32)


def _facts(path: Path, archive: Archive) -> Facts:
    angles, vectors = archive.first(*ANGLES), archive.first(*VECTORS)
    return Facts(
        angles=None if angles is None else archive.load(angles),
        angle_unit="" if angles is None else ANGLES[angles],
        angles_source=f"'{angles}' of the archive",
        angles_file=angles_file(path),
        pixel_mm=archive.number("pixel_mm"),
        axis_px=archive.number("axis_px", "cor_px"),
        source_origin_mm=archive.number("source_origin_mm"),
        source_detector_mm=archive.number("source_detector_mm"),
        vectors=None if vectors is None else np.asarray(archive.load(vectors), np.float64),
    )


NPY_READER = Reader(
    name="npy",
    title="projections in .npy",
    expects="real numbers with axes (view, row, column) or (view, column)",
    container="npy",
    extensions=(".npy",),
    sniff=sniff_npy,
    read=read_npy,
    options=NumpyOptions,
    holds="geometry by options",
)
NPZ_READER = Reader(
    name="npz",
    title="projections in .npz",
    expects="a real array named line_integrals, sinogram, transmission, projections or data",
    container="npz",
    extensions=(".npz",),
    sniff=sniff_npz,
    read=read_npz,
    options=NumpyOptions,
    holds="`angles_deg`, `angles_rad`, `angles`, `theta`; `axis_px` (`cor_px`), `pixel_mm`, `source_origin_mm`, "
    "`source_detector_mm`, `vectors`, `flats`, `darks`",
)
