"""Spokes through the middle of k-space in a bare .npy array: recognised by their energy, which peaks along the readout only.

The array says neither which axis is which nor how the spokes turn, so both are asked for. Cartesian k-space peaks along two
axes or more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.guards import check_memory
from napari_unroll.io.mri_scan import choice
from napari_unroll.io.npy_header import load_npy, npy_header
from napari_unroll.io.radial import SpokeOptions, along_trajectory, need_angles, spoke_angles, spokes
from napari_unroll.io.reader import Reader
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.scan import Scan

Axes = Literal[
    "ask", "spoke,readout", "coil,spoke,readout", "spoke,coil,readout", "slice,spoke,coil,readout", "slice,coil,spoke,readout",
    "coil,slice,spoke,readout",
]  # fmt: skip
FEWEST, WINDOW = 16, 48
"""Axes shorter than FEWEST say nothing; of the others WINDOW indices about the middle are looked at."""
PEAKED = 0.8
"""The part of the energy in the middle quarter of an axis from which on k = 0 lies there."""


class RadialOptions(SpokeOptions):
    """What an array of spokes does not say."""

    axes: Axes = Field(default="ask", description="Axes of the array.")
    centre: int | None = Field(
        default=None, ge=0, le=MOST, description="Index of k = 0 along the readout; empty: the middle, n // 2."
    )
    slice: int | None = Field(default=None, ge=0, le=MOST, description="Which slice, counted from 0.")
    size: int | None = Field(
        default=None,
        ge=1,
        le=MOST,
        description="Voxels along y and x; empty: half a readout, which is usually oversampled twice.",
    )
    voxel_mm: float = Field(default=1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Voxel size in mm.")


def sniff(path: Path) -> bool:
    """Complex numbers whose energy peaks in the middle of one long axis, and lies all along another."""
    header = npy_header(path)
    if header.dtype.kind != "c" or len(header.shape) not in (2, 3, 4):
        return False
    values = load_npy(path, lazy=True)
    long = [axis for axis, n in enumerate(values.shape) if n >= FEWEST]
    return len(long) > 1 and sum(_peaked(values, axis) for axis in long) == 1


def _peaked(values: np.ndarray, axis: int) -> bool:
    """Whether the energy of the middle of the other axes lies in the middle quarter of this one."""
    middle = tuple(
        slice(None) if a == axis else slice(max(0, n // 2 - WINDOW // 2), n // 2 + WINDOW // 2)
        for a, n in enumerate(values.shape)
    )
    energy = (np.abs(values[middle]) ** 2).sum(axis=tuple(a for a in range(values.ndim) if a != axis))
    n, total = len(energy), float(energy.sum())
    return bool(total > 0 and energy[n // 2 - n // 8 : n // 2 + n // 8 + 1].sum() > PEAKED * total)


def read(path: Path, options: RadialOptions) -> Scan:
    """One slice of spokes, weighted by their density."""
    header = npy_header(path)
    axes = _axes(path, header.shape, options)
    need_angles(path, options)
    check_memory(4 * header.n_bytes, path.name)
    order = ("slice", "coil", "spoke", "readout")
    stored = load_npy(path).transpose([axes.index(a) for a in order if a in axes])
    stored = np.expand_dims(stored, tuple(k for k, a in enumerate(order) if a not in axes))
    index = choice("slice", options.slice, len(stored))
    if index is None and len(stored) > 1:
        raise MissingInformation(f"{path.name} holds {len(stored)} slices; choose one by option 'slice'.", "slice")
    samples = stored[index or 0]
    n_spokes, n = samples.shape[1:]
    centre = n // 2 if options.centre is None else options.centre
    reach = np.arange(n) - centre
    if centre >= n:
        raise FileFormatError(f"{path.name} has readouts of {n} samples; option 'centre' must lie among them.")
    k, density = spokes(spoke_angles(path, options, n_spokes), reach / (2 * max(centre, n - centre)))
    size = options.size or n // 2
    notes = [
        f"Spokes of shape {header.shape}, axes ({', '.join(axes)}), k = 0 at sample {centre}; {options.angles}, "
        f"{'clockwise' if options.clockwise else 'counter-clockwise'}.",
        "The samples are weighted by the root of their density, the distance from k = 0.",
        f"{size} voxels along y and x; set option 'size'.",
    ]
    weighted = samples * np.sqrt(density)
    return along_trajectory(path, weighted, k, density, None, (1, size, size), options.voxel_mm, notes, options)


def _axes(path: Path, shape: tuple[int, ...], options: RadialOptions) -> list[str]:
    """The names of the axes, which the user gives."""
    axes = options.axes.split(",")
    if len(axes) == len(shape) and options.axes != "ask":
        return axes
    fitting = [order for order in get_args(Axes) if order.count(",") == len(shape) - 1 and order != "ask"]
    raise MissingInformation(
        f"{path.name} has the shape {shape} and its energy in the middle of one axis only, as spokes have: name the axes by "
        f"option 'axes' ({'; '.join(fitting)}), or read it as Cartesian by format=kspace.",
        "axes",
    )


READER = Reader(
    name="radial-npy",
    title="radial k-space in .npy",
    expects="complex numbers, strongest in the middle of one axis only",
    container="npy",
    extensions=(".npy",),
    sniff=sniff,
    read=read,
    options=RadialOptions,
    holds="order of the axes and angles of the spokes by options",
)
