"""Sinograms in the ``.mat`` files of the Helsinki open tomography data, such as those of the challenge HTC 2022.

A struct ``CtDataFull`` or ``CtData…`` with ``sinogram`` (view, column), after −log, and ``parameters``; distances in mm, angles in
degrees. Both kinds of file: MATLAB 5 (scipy) and 7.3 (HDF5, whose axes are in reverse).
Source: A. Meaney et al., Helsinki Tomography Challenge 2022, https://doi.org/10.5281/zenodo.6984868; the sense of rotation was
checked against the reconstructions there, which lie upside down to ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import checked, dataset, load, open_hdf5
from napari_unroll.io.mat_tags import check_tags
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views
from napari_unroll.scan.scan import Scan

STRUCT = "CtData"
Lookup = Callable[[str], np.ndarray | None]
"""A parameter by its name, as an array; None where there is none."""


def _named(names: Any) -> str | None:
    return next((name for name in names if name.startswith(STRUCT)), None)


def sniff(path: Path) -> bool:
    """Whether there is a struct whose name begins with CtData."""
    return _named(name for name, _, kind in scipy.io.whosmat(path) if kind == "struct") is not None


def sniff_hdf5(path: Path) -> bool:
    """Whether there is a group CtData… with a sinogram."""
    with open_hdf5(path) as file:
        return dataset(file, f"{_named(file)}/sinogram") is not None


def read(path: Path, options: CircularOptions) -> Scan:
    """The sinogram of a MATLAB 5 file as a cone beam of one row."""
    check_memory(4 * path.stat().st_size, path.name)
    check_tags(path)
    found = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
    struct = found[str(_named(found))]
    parameters = getattr(struct, "parameters", None)

    def field(name: str) -> np.ndarray | None:
        value = getattr(parameters, name, None)
        return None if value is None else np.asarray(value)

    return _scan(path, np.asarray(getattr(struct, "sinogram", None)), field, options)


def read_hdf5(path: Path, options: CircularOptions) -> Scan:
    """The sinogram of a MATLAB 7.3 file as a cone beam of one row."""
    with open_hdf5(path) as file:
        group = _named(file)

        def field(name: str) -> np.ndarray | None:
            return _field(file, f"{group}/parameters/{name}")

        return _scan(path, load(checked(file[f"{group}/sinogram"])).T, field, options)


def _field(file: h5py.File, name: str) -> np.ndarray | None:
    found = dataset(file, name)
    if found is None or not found.size:
        return None
    values = np.squeeze(load(found).T)
    is_text = found.attrs.get("MATLAB_class") == b"char"
    return np.asarray("".join(map(chr, np.ravel(values)))) if is_text else values


def _scan(path: Path, sinogram: np.ndarray, field: Lookup, options: CircularOptions) -> Scan:
    if sinogram.dtype.kind not in "iuf" or sinogram.ndim != 2:
        raise FileFormatError(
            f"{path.name} holds a sinogram of type {sinogram.dtype} and shape {sinogram.shape}; expected numbers (view, column)."
        )
    notes = ["One detector row per view; values taken as line integrals, as the data set says."]
    if options.values == "auto":
        options = options.model_copy(update={"values": "line-integrals"})
    stack = sinogram[:, None, :]
    views = Views(shape=(stack.shape[0], 1, stack.shape[2]), load=lambda i: stack[i])
    return circular_scan(path, views, _facts(path, field, options), options, notes)


def _facts(path: Path, field: Lookup, options: CircularOptions) -> Facts:
    unit = str(field("distanceUnit")) if field("distanceUnit") is not None else "mm"
    if unit != "mm":
        raise FileFormatError(f"{path.name} gives distances in {unit[:20]}; expected mm. Convert them.")
    pixel = _number(field("pixelSizePost"))
    pixel = _number(field("pixelSize")) if pixel is None else pixel
    if pixel is None and options.pixel_mm is None:
        raise MissingInformation(f"{path.name} has no pixel size; give it by option 'pixel_mm'.", "pixel_mm")
    parallel = str(field("geometryType")).lower() == "parallel"
    angles = field("angles")
    return Facts(
        angles=None if angles is None or angles.dtype.kind not in "iuf" else angles,
        angle_unit="degrees",
        pixel_mm=pixel,
        source_origin_mm=None if parallel else _number(field("distanceSourceOrigin")),
        source_detector_mm=None if parallel else _number(field("distanceSourceDetector")),
    )


def _number(value: np.ndarray | None) -> float | None:
    return float(value) if value is not None and value.size == 1 and value.dtype.kind in "iuf" else None


READER = Reader(
    name="matlab",
    title="Helsinki CT data in .mat",
    expects="a struct CtData… with sinogram and parameters",
    container="mat",
    extensions=(".mat",),
    sniff=sniff,
    read=read,
    options=CircularOptions,
    holds="distances, pixel size and angles of a fan beam (HTC 2022)",
)
HDF5_READER = Reader(
    name="matlab-7.3",
    title="Helsinki CT data in .mat of MATLAB 7.3",
    expects="a group CtData… with sinogram and parameters",
    container="hdf5",
    extensions=(".mat",),
    sniff=sniff_hdf5,
    read=read_hdf5,
    options=CircularOptions,
    holds="as in other Helsinki CT data",
)
