"""What tilt series of electron microscopes share: options, and a tilt axis whose direction the file may say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.scan.limits import MOST

T = TypeVar("T")


class TiltOptions(CircularOptions):
    """The options of circular scans; the direction of the axis may come from the file."""

    rotation_axis: Literal["auto", "vertical", "horizontal"] = Field(  # type: ignore[assignment]
        default="auto", description="Direction of the tilt axis in the pictures. Auto: from the file, else vertical."
    )
    dataset: int = Field(default=0, ge=0, le=MOST, description="Which series of the file, counted from 0.")


def chosen(path: Path, found: Sequence[T], options: TiltOptions) -> T:
    """The series of the option ``dataset``. Raises FileFormatError where there are fewer."""
    if options.dataset >= len(found):
        raise FileFormatError(f"{path.name} has {len(found)} stacks, counted from 0; give another option 'dataset'.")
    return found[options.dataset]


def decided(options: TiltOptions, told: str, notes: list[str]) -> TiltOptions:
    """The options with the direction of the axis: as asked, else as the file says (``told``), else vertical."""
    if options.rotation_axis != "auto":
        return options
    axis = told or "vertical"
    notes.append(f"Tilt axis {axis} ({'from the file' if told else 'the file does not say; set rotation_axis'}).")
    return options.model_copy(update={"rotation_axis": axis})


def varying(values: Any, n: int) -> np.ndarray | None:
    """Tilts of ``n`` views in float64; None where there are others in number, or where all are the same."""
    found = np.ravel(np.asarray(values))
    if found.dtype.kind not in "iuf" or len(found) != n or (n > 1 and np.ptp(found) == 0):
        return None
    return found.astype(np.float64)
