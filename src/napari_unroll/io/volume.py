"""What a volume on disk is: values, grid and record. Complex values become magnitude and phase, and back.

It knows no file format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.scan.geometry import VolumeGrid

CHANNELS = ("magnitude", "phase")
"""Names of the two channels that a complex volume is written as."""
RECORD_KEY = "napari_unroll"


@dataclass(frozen=True)
class Volume:
    """A result: values (z, y, x), real or complex, their grid, and the record of how they came about."""

    values: np.ndarray
    grid: VolumeGrid
    record: dict[str, Any]


def checked_volume(values: Any, grid: VolumeGrid, record: Mapping[str, Any] | None) -> Volume:
    """A volume ready to be written: shapes fit, the record is plain JSON, values are float32, complex64 or integers."""
    array = np.asarray(values)
    if array.shape != grid.shape:
        raise ParameterError(
            f"The volume has shape {array.shape} but its grid {grid.shape}; give the grid it was made on."
        )
    if array.dtype.kind not in "biufc":
        raise ParameterError(f"A volume must hold numbers; got type {array.dtype}.")
    if array.dtype.kind == "c":
        array = array.astype(np.complex64, copy=False)
    elif array.dtype.kind == "f" or array.dtype.itemsize > 4:
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8)
    return Volume(array, grid, plain_record(record or {}))


def plain_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as plain JSON values; numpy numbers, paths, tuples and dataclasses are converted."""
    try:
        return dict(json.loads(json.dumps(record, default=_plain)))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"The provenance record cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (Path, set, frozenset)):
        return str(value) if isinstance(value, Path) else sorted(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no plain value")


def to_channels(values: np.ndarray) -> np.ndarray:
    """Magnitude and phase (2, z, y, x), float32, of a complex volume."""
    return np.stack([np.abs(values), np.angle(values)]).astype(np.float32, copy=False)


def from_channels(channels: np.ndarray) -> np.ndarray:
    """The complex volume of magnitude and phase (2, z, y, x)."""
    return np.asarray(channels[0] * np.exp(1j * channels[1]), np.complex64)
