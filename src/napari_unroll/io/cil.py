"""Acquisition data of CIL in NeXus HDF5, with the whole geometry: cone and parallel, 2-D and 3-D, axes that lean.

CIL keeps no unit of length; mm are assumed. Its sample turns counter-clockwise about the axis, the scanner stands.
Source of the layout: CIL's own ``NEXUSDataWriter`` and ``NEXUSDataReader`` (https://github.com/TomographicImaging/CIL).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import checked, dataset, load, open_hdf5
from napari_unroll.io.number_files import to_radians
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.turntable import Turntable

ENTRY = "entry1/tomo_entry"
CONFIG = f"{ENTRY}/config"
KEY = f"{ENTRY}/data/image_key"
PROJECTION, FLAT, DARK = 0, 1, 2
LABELS = ("channel", "angle", "vertical", "horizontal")


class CilOptions(CircularOptions):
    """The options of circular scans, and the channel."""

    channel: int = Field(default=0, ge=0, le=MOST, description="Which channel (energy), counted from 0.")


@dataclass(frozen=True)
class Frames:
    """The stored array and what its axes are; frame i is (row, column)."""

    data: h5py.Dataset
    labels: tuple[str, ...]
    channel: int

    def n(self, label: str) -> int:
        """Length of an axis, 1 where there is none."""
        return int(self.data.shape[self.labels.index(label)]) if label in self.labels else 1

    def frame(self, i: int) -> np.ndarray:
        """One frame (row, column) as the numbers that were compressed into it."""
        where = {"angle": i, "channel": self.channel}
        values = np.asarray(self.data[tuple(where.get(label, slice(None)) for label in self.labels)], np.float32)
        if "horizontal" in self.labels and self.labels.index("horizontal") < self._at("vertical"):
            values = values.T
        values = values.reshape(self.n("vertical"), self.n("horizontal"))
        scale, offset = (_number(self.data, name, default) for name, default in (("scale", 1.0), ("offset", 0.0)))
        return (values - np.float32(offset)) / np.float32(scale)

    def _at(self, label: str) -> int:
        return self.labels.index(label) if label in self.labels else -1

    def mean(self, chosen: np.ndarray) -> np.ndarray | None:
        """Mean of these frames, float32; None of none."""
        if not len(chosen):
            return None
        total = np.zeros((self.n("vertical"), self.n("horizontal")), np.float64)
        for i in chosen:
            check()
            total += self.frame(int(i))
        return np.asarray(total / len(chosen), np.float32)


def sniff(path: Path) -> bool:
    """Whether CIL wrote it, or has left its group of settings."""
    with open_hdf5(path) as file:
        return _text(file.attrs.get("creator", "")) == "NEXUSDataWriter.py" or isinstance(file.get(CONFIG), h5py.Group)


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def read(path: Path, options: CilOptions) -> Scan:
    """The projections of one channel with CIL's geometry; flats and darks by image_key where the file has one."""
    with open_hdf5(path) as file:
        frames = _frames(path, file, options)
        chosen, flat, dark, notes = _sorted(file, frames)
        views = Views(
            shape=(len(chosen), frames.n("vertical"), frames.n("horizontal")),
            load=lambda i: frames.frame(int(chosen[i])),
            flat=flat,
            dark=0.0 if dark is None else dark,
        )
        return circular_scan(path, views, _facts(path, file, frames, notes), options, notes)


def _frames(path: Path, file: h5py.File, options: CilOptions) -> Frames:
    stored = dataset(file, f"{ENTRY}/data/data")
    if stored is None:
        raise FileFormatError(
            f"{path.name} was written by CIL, but has no dataset {ENTRY}/data/data; it is incomplete."
        )
    data = checked(stored)
    if _text(data.attrs.get("data_type", "")) == "ImageData":
        raise FileFormatError(f"{path.name} holds a volume of CIL (ImageData); expected projections (AcquisitionData).")
    labels = tuple(_text(data.attrs.get(f"dim{k}", LABELS[k - data.ndim])) for k in range(data.ndim))
    if not set(labels) <= set(LABELS) or len(set(labels)) != data.ndim or "horizontal" not in labels:
        raise FileFormatError(
            f"{path.name} names its axes {', '.join(labels)[:80]}; expected some of {', '.join(LABELS)}, once each."
        )
    frames = Frames(data, labels, options.channel)
    if options.channel >= frames.n("channel"):
        raise FileFormatError(
            f"{path.name} has {frames.n('channel')} channels, counted from 0; option 'channel' asks for {options.channel}."
        )
    return frames


def _sorted(file: h5py.File, frames: Frames) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, list[str]]:
    """The frames that are projections, the mean flat and dark field, and what was found."""
    notes = [f"Axes {', '.join(frames.labels)}."]
    if frames.n("channel") > 1:
        notes.append(f"Channel {frames.channel} of {frames.n('channel')}.")
    stored = dataset(file, KEY)
    if stored is None:
        return np.arange(frames.n("angle")), None, None, notes
    key = np.ravel(load(stored))
    if len(key) != frames.n("angle") or not (key == PROJECTION).any():
        raise FileFormatError(
            f"/{KEY} marks no projection, or not every one of {frames.n('angle')} frames; it is damaged."
        )
    check_memory(32 * frames.n("vertical") * frames.n("horizontal"), "flats and darks")
    flats, darks = (np.flatnonzero(key == kind) for kind in (FLAT, DARK))
    notes.append(f"{(key == PROJECTION).sum()} projections, {len(flats)} flats, {len(darks)} darks by image_key.")
    return np.flatnonzero(key == PROJECTION), frames.mean(flats), frames.mean(darks), notes


def _facts(path: Path, file: h5py.File, frames: Frames, notes: list[str]) -> Facts:
    table, pixel = _table(path, file, frames.data)
    angles = _angles(path, file)
    notes.append(f"CIL's geometry of a {'parallel' if table.parallel else 'cone'} beam; its lengths are taken as mm.")
    to_axis, to_detector = (
        None if table.parallel else float(np.linalg.norm(p - table.ray)) for p in (table.axis, table.detector)
    )
    return Facts(
        angles=-angles,
        angle_unit="radians",
        pixel_mm=pixel,
        vectors=table.vectors(angles),
        beam="parallel" if table.parallel else "cone",
        source_origin_mm=to_axis,
        source_detector_mm=to_detector,
    )


def _angles(path: Path, file: h5py.File) -> np.ndarray:
    """CIL's angles with the initial one, in radians."""
    stored = dataset(file, f"{CONFIG}/angles")
    stored = dataset(file, f"{ENTRY}/data/rotation_angle") if stored is None else stored
    if stored is None:
        raise FileFormatError(f"{path.name} has no {CONFIG}/angles; it is incomplete. Write it again.")
    unit = _text(stored.attrs.get("angle_unit", "degree"))
    return to_radians(np.ravel(load(stored)).astype(np.float64) + _number(stored, "initial_angle", 0.0), unit)


def _table(path: Path, file: h5py.File, data: h5py.Dataset) -> tuple[Turntable, float]:
    """The scanner as CIL describes it, and the pitch of its columns."""
    width = _number(data, "pixel_size_h", None)
    height = _number(data, "pixel_size_v", width) or width
    origin = _text(data.attrs.get("panel_origin", "bottom-left"))
    if "geom_type" in data.attrs:
        positions = _old(data)
    else:
        source = _triple(path, file, "source/position")
        ray = source if source is not None else _triple(path, file, "ray/direction")
        detector, axis = (_triple(path, file, f"{name}/position") for name in ("detector", "rotation_axis"))
        if ray is None or detector is None or axis is None:
            raise FileFormatError(
                f"{path.name} lacks positions of source, detector or axis in {CONFIG}; write it again."
            )
        positions = {"ray": ray, "detector": detector, "axis": axis, "parallel": source is None}
    columns = _triple(path, file, "detector/direction_x", "detector/direction_row")
    rows = _triple(path, file, "detector/direction_y", "detector/direction_col")
    upright = _triple(path, file, "rotation_axis/direction")
    table = Turntable(
        u=_pitch(columns, (1, 0, 0), -width if "right" in origin else width),
        v=_pitch(rows, (0, 0, 1), -height if "top" in origin else height),
        axis_direction=np.array([0, 0, 1.0]) if upright is None else upright,
        **positions,
    )
    return table, width


def _pitch(direction: np.ndarray | None, usual: tuple[int, ...], size: float) -> np.ndarray:
    along = np.array(usual, np.float64) if direction is None else direction
    return size * along / np.linalg.norm(along)


def _old(data: h5py.Dataset) -> dict[str, Any]:
    """Positions of files of before CIL 20.11: distances alone."""
    parallel = "dist_source_center" not in data.attrs or _text(data.attrs["geom_type"]) == "parallel"
    source = 1.0 if parallel else _number(data, "dist_source_center", None)
    detector = 0.0 if parallel else _number(data, "dist_center_detector", None)
    ray = np.array([0, source if parallel else -source, 0])
    return {"ray": ray, "detector": np.array([0, detector, 0]), "axis": np.zeros(3), "parallel": parallel}


def _triple(path: Path, file: h5py.File, *names: str) -> np.ndarray | None:
    """A position or direction; those of 2-D geometries lie in the plane z = 0."""
    found = next((d for name in names if (d := dataset(file, f"{CONFIG}/{name}")) is not None), None)
    if found is None:
        return None
    numbers = np.ravel(load(found)).astype(np.float64) if found.size in (2, 3) else np.empty(0)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise FileFormatError(f"{path.name}: {found.name} should be 2 or 3 finite numbers; write the file again.")
    return np.pad(numbers, (0, 3 - len(numbers)))


def _number(item: h5py.Dataset, name: str, default: float | None) -> float:
    value = item.attrs.get(name, default)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise FileFormatError(f"{item.name} says {name} = {str(value)[:40]}; expected a number. Write the file again.")
    return found


READER = Reader(
    name="cil",
    title="CIL acquisition data (NeXus HDF5)",
    expects="creator NEXUSDataWriter.py, or a group entry1/tomo_entry/config",
    container="hdf5",
    extensions=(".nxs", ".h5"),
    sniff=sniff,
    read=read,
    options=CilOptions,
    holds="positions of source, detector and axis, directions, pixels, angles; option `channel`",
)
