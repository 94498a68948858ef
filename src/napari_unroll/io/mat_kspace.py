"""k-space in MATLAB files: the one complex array of two to four axes, with mask and coil maps where they are named so.

Version 5 is read by scipy, 7.3 is HDF5, whose arrays have their axes in reverse and complex numbers as pairs (real, imag).
MATLAB has no usual order of axes: it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.guards import check_memory, check_packed
from napari_unroll.io.hdf5 import check_pairs, dataset, open_hdf5
from napari_unroll.io.kspace import KSPACE, MAPS, MASK, KSpaceOptions, array_scan
from napari_unroll.io.mat_tags import check_tags
from napari_unroll.io.reader import Reader
from napari_unroll.scan.scan import Scan

NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
MOST_AXES = 4


class MatOptions(KSpaceOptions):
    """Which array of the file."""

    variable: str | None = Field(default=None, description="Name of the array of k-space, where the file has several.")


@dataclass(frozen=True)
class Held:
    """The arrays of a file: their shapes by name in MATLAB's order, and how one is loaded."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    is_complex: Callable[[str], bool]
    load: Callable[[str], np.ndarray]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of these names that the file has, in lower or upper case."""
        known = {name.lower(): name for name in self.shapes}
        return next((known[name] for name in names if name in known), None)

    def kspace(self) -> list[str]:
        """The arrays that can be k-space: complex, of two to four axes longer than one point, no coil maps."""
        maps = self.first(MAPS)
        fitting = [
            n for n, shape in self.shapes.items() if len(shape) <= MOST_AXES and max(shape, default=0) > 1 and n != maps
        ]
        named = self.first(KSPACE)
        if named in fitting and self.is_complex(named):
            return [named]
        return [n for n in fitting if self.is_complex(n)]

    def optional(self, names: tuple[str, ...]) -> np.ndarray | None:
        """The array of the first of these names, or None."""
        name = self.first(names)
        return None if name is None else self.load(name)


def _scan(path: Path, held: Held, options: MatOptions) -> Scan:
    found = held.kspace()
    if options.variable is not None and options.variable not in held.shapes:
        raise MissingInformation(
            f"{path.name} has no array {options.variable!r}; it holds {', '.join(held.shapes)}.", "variable"
        )
    if options.variable is None and len(found) != 1:
        raise MissingInformation(
            f"{path.name} holds {len(found)} complex arrays ({', '.join(found)}); name the k-space by option 'variable'.",
            "variable",
        )
    name = options.variable or found[0]
    shape = held.shapes[name]
    if options.axes == "auto" and len(shape) > 2:
        raise MissingInformation(
            f"{name} in {path.name} has the shape {shape}, and MATLAB no usual order of axes; name them by option 'axes'.",
            "axes",
        )
    return array_scan(path, held.load(name), held.optional(MASK), held.optional(MAPS), None, options)


def _version_5(path: Path) -> Held:
    shapes = {name: tuple(shape) for name, shape, kind in scipy.io.whosmat(str(path)) if kind in NUMBERS}

    def load(name: str) -> np.ndarray:
        size = 16
        for n in shapes[name]:
            size *= int(n)
        check_packed(f"{name} in {path.name}", size, path.stat().st_size)
        check_memory(3 * size, path.name)
        check_tags(path)
        return np.asarray(scipy.io.loadmat(str(path), variable_names=[name])[name])

    return Held(path.name, shapes, lambda name: load(name).dtype.kind == "c", load)


def sniff_mat(path: Path) -> bool:
    """Whether there is a complex array of two to four axes."""
    return bool(_version_5(path).kspace())


def read_mat(path: Path, options: MatOptions) -> Scan:
    """k-space of a file of version 5."""
    return _scan(path, _version_5(path), options)


def _version_73(path: Path, file: h5py.File) -> Held:
    arrays = {
        str(n): a for n in file if (a := dataset(file, str(n))) is not None and a.dtype.kind in "biufcV" and a.ndim >= 2
    }

    def load(name: str) -> np.ndarray:
        stored = arrays[name]
        where = f"{name} in {path.name}"
        if stored.external or stored.is_virtual or stored.id.get_storage_size() == 0:
            raise FileFormatError(f"{where} keeps no values in this file; write one self-contained file.")
        check_pairs(stored)
        check_packed(where, stored.nbytes, stored.id.get_storage_size())
        check_memory(3 * stored.nbytes, where)
        values = stored[()]
        return np.asarray((values["real"] + 1j * values["imag"] if values.dtype.kind == "V" else values).T)

    is_complex = lambda name: set(arrays[name].dtype.names or ()) == {"real", "imag"}  # noqa: E731
    return Held(path.name, {name: a.shape[::-1] for name, a in arrays.items()}, is_complex, load)


def sniff_hdf5(path: Path) -> bool:
    """Whether there is such an array, in pairs (real, imag)."""
    with open_hdf5(path) as file:
        return bool(_version_73(path, file).kspace())


def read_hdf5(path: Path, options: MatOptions) -> Scan:
    """k-space of a file of version 7.3."""
    with open_hdf5(path) as file:
        return _scan(path, _version_73(path, file), options)


MAT_READER = Reader(
    name="kspace-mat",
    title="k-space in .mat",
    expects="a complex array of 2 to 4 axes",
    container="mat",
    extensions=(".mat",),
    sniff=sniff_mat,
    read=read_mat,
    options=MatOptions,
    holds="option `axes`; `mask`, `csm` where they are named so",
)
HDF5_READER = Reader(
    name="kspace-mat-73",
    title="k-space in .mat of version 7.3",
    expects="an array of pairs (real, imag)",
    container="hdf5",
    extensions=(".mat",),
    sniff=sniff_hdf5,
    read=read_hdf5,
    options=MatOptions,
    holds="the same",
)
