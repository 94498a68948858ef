"""Tilt series in EMD files (HDF5): those of Berkeley's NCEM, with a dataset per axis, and Thermo Fisher's Velox.

Sources: https://emdatasets.com/format ; Velox as RosettaSciIO reads it (https://hyperspy.org/rosettasciio): pictures
(y, x, frame) under Data/Image, and per frame one column of JSON with the tilt in radians and the pixel in metres.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.hdf5 import MM, checked, dataset, load, objects, open_hdf5
from napari_unroll.io.number_files import angles_file
from napari_unroll.io.reader import Reader
from napari_unroll.io.tilts import TiltOptions, chosen, decided, varying
from napari_unroll.io.views import Views
from napari_unroll.scan.scan import Scan

VELOX = "Data/Image"
MOST_JSON = 2_000_000
"""Bytes of the metadata of one frame."""
ANGULAR = ("deg", "°", "rad")


def _stacks(file: h5py.File) -> list[h5py.Dataset]:
    """The datasets of three axes in both layouts."""
    found: list[h5py.Dataset] = []
    velox = file.get(VELOX)
    if isinstance(velox, h5py.Group):
        found += [d for name in velox if (d := dataset(file, f"{VELOX}/{name}/Data")) is not None]

    for name, item in objects(file):
        if isinstance(item, h5py.Group) and "emd_group_type" in item.attrs:
            stack = dataset(file, f"{name}/data")
            if stack is not None and len(_dims(file, stack)) == 3:
                found.append(stack)
    return [d for d in found if d.ndim == 3 and min(d.shape) > 1]


def sniff(path: Path) -> bool:
    """Whether it holds a stack of pictures in one of the two layouts."""
    with open_hdf5(path) as file:
        return bool(_stacks(file))


def read(path: Path, options: TiltOptions) -> Scan:
    """A tilt series; the axis of the tilts is found by its unit, else it is the first (Velox: the last)."""
    with open_hdf5(path) as file:
        found = _stacks(file)
        data = checked(chosen(path, found, options), 3)
        velox = str(data.name).startswith(f"/{VELOX}")
        along, facts = _velox(path, file, data) if velox else _ncem(path, file, data)
        rows, cols = (n for k, n in enumerate(data.shape) if k != along)
        notes = [f"{'Velox' if velox else 'NCEM'} stack {options.dataset + 1} of {len(found)}: {str(data.name)[:60]}."]
        views = Views(
            shape=(data.shape[along], rows, cols),
            load=lambda i: data[(slice(None),) * along + (i,)],
            integer=data.dtype.kind in "iu",
        )
        views = views if velox or not _is_x_first(file, data, along) else views.transposed()
        return circular_scan(path, views, facts, decided(options, "", notes), notes)


def _dims(file: h5py.File, data: h5py.Dataset) -> list[h5py.Dataset]:
    """The datasets of the axes, dim1 to dim3, or dim0 to dim2 in newer files."""
    group = str(data.name).rpartition("/")[0]
    first = 1 if dataset(file, f"{group}/dim0") is None else 0
    found = [dataset(file, f"{group}/dim{k + first}") for k in range(data.ndim)]
    return [d for d in found if d is not None and d.size]


def _is_x_first(file: h5py.File, data: h5py.Dataset, along: int) -> bool:
    """Whether the pictures are kept as (x, y)."""
    names = [_text(d, "name") for k, d in enumerate(_dims(file, data)) if k != along]
    return names == ["x", "y"]


def _ncem(path: Path, file: h5py.File, data: h5py.Dataset) -> tuple[int, Facts]:
    dims = _dims(file, data)
    units = [_text(d, "units").strip("[]").replace("_", "") for d in dims]
    angular = [k for k, unit in enumerate(units) if unit.startswith(ANGULAR)]
    along = angular[0] if len(angular) == 1 else 0
    lengths = [k for k, unit in enumerate(units) if k != along and unit in MM]
    pixel = abs(float(np.diff(_places(dims[lengths[0]], 2))[0])) * MM[units[lengths[0]]] if lengths else None
    return along, Facts(
        angles=varying(_places(dims[along], data.shape[along]), data.shape[along]) if angular else None,
        angle_unit="radians" if units[along].startswith("rad") else "degrees",
        angles_source=f"axis {along + 1}",
        angles_file=angles_file(path),
        pixel_mm=pixel or None,
    )


def _places(dim: h5py.Dataset, n: int) -> np.ndarray:
    """The places along an axis, of which the first two may stand for all ``n``."""
    places = np.ravel(load(checked(dim))).astype(np.float64)
    if len(places) == 2 < n:
        places = places[0] + (places[1] - places[0]) * np.arange(n)
    return places if n > 2 else np.pad(places[:2], (0, max(0, 2 - len(places))))


def _text(dim: h5py.Dataset, name: str) -> str:
    value = dim.attrs.get(name, "")
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip().lower()


def _velox(path: Path, file: h5py.File, data: h5py.Dataset) -> tuple[int, Facts]:
    stored = dataset(file, f"{str(data.name).rpartition('/')[0]}/Metadata")
    frames = [] if stored is None else _frames(stored)
    tilts = [_number(frame, "Stage", "AlphaTilt") for frame in frames]
    pixel = _number(frames[0], "BinaryResult", "PixelSize", "width") if frames else None
    return 2, Facts(
        angles=None if None in tilts else varying(tilts, data.shape[2]),
        angle_unit="radians",
        angles_source="the stage",
        angles_file=angles_file(path),
        pixel_mm=pixel * 1e3 if pixel else None,
    )


def _frames(stored: h5py.Dataset) -> list[Any]:
    """The metadata of every frame."""
    if stored.ndim != 2 or stored.dtype != np.uint8 or stored.shape[0] > MOST_JSON:
        raise FileFormatError(f"{stored.name} should be a column of text per frame; its shape is {stored.shape}.")
    found = []
    for k in range(stored.shape[1]):
        check()
        text = stored[:, k].tobytes().rstrip(b"\0").split(b"\0")[0]
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{stored.name} of frame {k} is no JSON; the file is damaged.") from error
    return found


def _number(found: Any, *names: str) -> float | None:
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    try:
        return float(found)
    except (TypeError, ValueError):
        return None


READER = Reader(
    name="emd",
    title="EMD tilt series (NCEM, Velox)",
    expects="an EMD group, or pictures under Data/Image, with 3 axes",
    container="hdf5",
    extensions=(".emd",),
    sniff=sniff,
    read=read,
    options=TiltOptions,
    holds="tilts of an axis or of the stage, beside it, or option `angles`; pixel size; options `dataset`, `rotation_axis`",
)
