"""DXchange HDF5: ``/exchange/{data, data_white, data_dark, theta}``, as written at synchrotrons.

Source: F. De Carlo et al., Scientific data exchange, J. Synchrotron Rad. 21 (2014), doi:10.1107/S160057751401604X.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.hdf5 import checked, dataset, load, mean_of, open_hdf5, unit, views_of
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Field, later
from napari_unroll.scan.scan import Scan

ROTATION = "process/acquisition/rotation"


def sniff(path: Path) -> bool:
    """Whether there is an /exchange/data."""
    with open_hdf5(path) as file:
        return dataset(file, "exchange/data") is not None


def read(path: Path, options: CircularOptions) -> Scan:
    """Line integrals from counts, flats and darks; angles from theta or from the recorded rotation."""
    with open_hdf5(path) as file:
        data = checked(file["exchange/data"], 3)
        flat, dark = (_field(dataset(file, f"exchange/data_{kind}")) for kind in ("white", "dark"))
        notes = [_fields_note(flat is not None, dark is not None)]
        views = views_of(data, None, flat=flat, dark=0.0 if dark is None else dark)
        return circular_scan(path, views, _facts(file, data.shape[0], options), options, notes)


def _field(stored: h5py.Dataset | None) -> Callable[[int], Field] | None:
    """The mean of the flats or darks, loaded when it is needed."""
    return None if stored is None or not stored.size else later(lambda: mean_of(stored))


def _fields_note(has_flat: bool, has_dark: bool) -> str:
    if not has_flat:
        return "No flat field (/exchange/data_white)."
    return "Corrected by the mean flat field" + (" and dark field." if has_dark else "; no dark field.")


def _facts(file: h5py.File, n_views: int, options: CircularOptions) -> Facts:
    theta = dataset(file, "exchange/theta")
    if theta is not None and theta.size:
        return Facts(angles=load(theta), angle_unit=unit(theta), angles_source="/exchange/theta")
    start, step, count = (dataset(file, f"{ROTATION}/{k}") for k in ("rotation_start", "rotation_step", "num_angles"))
    if start is None or step is None or options.angles is not None:
        return Facts()
    if count is not None and _number(count) != n_views:
        raise FileFormatError(
            f"The file has {n_views} views but records num_angles = {_number(count):g}; give the angles by option 'angles'."
        )
    angles = _number(start) + _number(step) * np.arange(n_views)
    return Facts(angles=angles, angle_unit=unit(start) or "degrees", angles_source=f"/{ROTATION}")


def _number(data: h5py.Dataset) -> float:
    value = float(np.ravel(load(data))[0])
    if not np.isfinite(value):
        raise FileFormatError(
            f"{data.name} is {value:g}; expected a finite number. Correct it, or give option 'angles'."
        )
    return value


READER = Reader(
    name="dxchange",
    title="DXchange HDF5",
    expects="a dataset /exchange/data",
    container="hdf5",
    extensions=(".h5", ".hdf", ".hdf5"),
    sniff=sniff,
    read=read,
    options=CircularOptions,
    holds="`theta`, or `/process/acquisition/rotation`; `data_white` and `data_dark` are used where present",
)
