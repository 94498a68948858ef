"""Cartesian k-space in .npy and .npz files: (y, x), (coil, y, x) or (coil, z, y, x), complex.

The sampling mask is what is not zero, unless one is given; coil maps are read where they are given. Radial and other
trajectories are not Cartesian and not read here: see radial_npy.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.guards import check_memory, container
from napari_unroll.io.mri_scan import CartesianOptions, across_slices, cartesian_scan
from napari_unroll.io.npy_header import Archive, load_npy, npy_header
from napari_unroll.io.number_files import locate
from napari_unroll.io.reader import Reader
from napari_unroll.record import FileName, shown
from napari_unroll.scan.limits import LONGEST_MM, SHORTEST_MM, is_length
from napari_unroll.scan.scan import Scan

KSPACE, MASK, MAPS = ("kspace", "ksp", "k", "arr_0"), ("mask", "sampling_mask"), ("csm", "maps", "coil_maps", "sens")
MOST_COILS = 64
"""Nobody is asked whether so many are coils."""
AXES = {2: "y,x", 3: "coil,y,x", 4: "coil,z,y,x"}


Axes = Literal[
    "auto", "y,x", "z,y,x", "coil,y,x", "coil,z,y,x", "y,x,coil", "x,y,coil", "z,y,x,coil", "y,x,z,coil", "x,y,z,coil",
    "slice,coil,y,x", "y,x,coil,slice", "y,x,slice,coil", "x,y,slice,coil", "x,y,coil,slice",
]  # fmt: skip


class KSpaceOptions(CartesianOptions):
    """What a bare array of samples does not say."""

    axes: Axes = Field(
        default="auto",
        description="Axes of the array; slice: slices, transformed in y and x only. Auto: y,x or coil,y,x or coil,z,y,x.",
    )
    centred: bool = Field(default=True, description="k = 0 lies in the middle of the array; off: in its corner.")
    mask: FileName | None = Field(default=None, description="Sampling mask, (y, x) or (z, y, x): a .npy file.")
    csm: FileName | None = Field(
        default=None, description="Coil sensitivity maps, the same axes as k-space: a .npy file."
    )
    spacing_mm: str | None = Field(default=None, description="Voxel size in mm: one number, or z,y,x.")


def sniff_npy(path: Path) -> bool:
    """Complex numbers of two to four axes."""
    header = npy_header(path)
    return header.dtype.kind == "c" and len(header.shape) in AXES


def sniff_npz(path: Path) -> bool:
    """A complex array under one of the known names."""
    archive = Archive(path)
    name = archive.first(*KSPACE)
    return name is not None and archive.headers[name].dtype.kind == "c"


def read_npy(path: Path, options: KSpaceOptions) -> Scan:
    """k-space of a plain array."""
    check_memory(3 * npy_header(path).n_bytes, path.name)
    return array_scan(path, load_npy(path), None, None, None, options)


def read_npz(path: Path, options: KSpaceOptions) -> Scan:
    """k-space of an archive, with its mask, coil maps and voxel size where it has them."""
    archive = Archive(path)
    name = archive.first(*KSPACE)
    if name is None or archive.headers[name].dtype.kind != "c":
        raise FileFormatError(f"{path.name} holds {archive}; expected complex k-space under: {', '.join(KSPACE)}.")
    check_memory(3 * archive.headers[name].n_bytes, path.name)
    mask, csm, spacing = (archive.optional(*names) for names in (MASK, MAPS, ("spacing_mm",)))
    return array_scan(path, archive.load(name), mask, csm, spacing, options)


def array_scan(
    path: Path,
    stored: np.ndarray,
    mask: np.ndarray | None,
    csm: np.ndarray | None,
    spacing: np.ndarray | None,
    options: KSpaceOptions,
) -> Scan:
    """The scan of a bare array of k-space; ``mask``, ``csm`` and ``spacing`` are what lies beside it in its file."""
    notes: list[str] = []
    kspace = _arranged(path.name, stored, options, notes)
    _doubt_centre(kspace, notes)
    mask = _side_array(options.mask, path) if options.mask is not None else mask
    csm = _side_array(options.csm, path) if options.csm is not None else csm
    sampled = _mask(path, kspace, mask, options, notes)
    maps = None if csm is None else _arranged("The array of coil maps", csm, options, [], maps=True)
    return cartesian_scan(path.stem, kspace, sampled, _spacing(spacing, options), maps, options, notes)


def _arranged(
    name: str, stored: np.ndarray, options: KSpaceOptions, notes: list[str], maps: bool = False
) -> np.ndarray:
    """Complex64 (coil, z, y, x), the middle of k-space in the middle of the array."""
    axes = (AXES.get(stored.ndim, "") if options.axes == "auto" else options.axes).split(",")
    if len(axes) != stored.ndim:
        raise FileFormatError(
            f"{name} holds {stored.shape}; expected axes {', '.join(f'({a})' for a in AXES.values())}. "
            "Set option 'axes', or save it so."
        )
    if stored.dtype.kind != "c":
        raise FileFormatError(f"{name} should hold complex numbers; it holds type {stored.dtype}.")
    if options.axes == "auto" and axes[0] == "coil" and len(stored) > MOST_COILS:
        last = f"{AXES[stored.ndim].removeprefix('coil,')},coil"
        raise FileFormatError(
            f"{name} has shape {stored.shape}: are these {len(stored)} coils? Set option 'axes' to {','.join(axes)} if "
            f"so, else to {last} or another order."
        )
    notes.append(f"k-space of shape {stored.shape}, axes taken as ({', '.join(axes)}); centred orthonormal FFT.")
    sliced, axes = "slice" in axes, ["z" if a == "slice" else a for a in axes]
    order = [axes.index(a) for a in ("coil", "z", "y", "x") if a in axes]
    missing = tuple(k for k, a in enumerate(("coil", "z", "y", "x")) if a not in axes)
    values = np.ascontiguousarray(np.expand_dims(stored.transpose(order), missing), np.complex64)
    if maps:
        return values
    if not options.centred:
        values = np.fft.fftshift(values, axes=(2, 3) if sliced else (1, 2, 3))
    return across_slices(values) if sliced else values


def _doubt_centre(kspace: np.ndarray, notes: list[str]) -> None:
    energy = np.abs(kspace).sum(axis=0)
    peak = np.unravel_index(int(energy.argmax()), energy.shape)
    off = [k for k, n in zip(peak, energy.shape, strict=True) if n > 8 and min(k, n - k) <= n // 8]
    if off:
        notes.append(
            "The strongest sample lies at the border of k-space: if pictures come out chequered, switch 'centred'."
        )


def _side_array(text: str, beside: Path) -> np.ndarray:
    path = locate(text, beside)
    if container(path) != "npy":
        raise FileFormatError(f"{path.name} should be a .npy file (mask or coil maps).")
    return load_npy(path)


def _mask(
    path: Path, kspace: np.ndarray, given: np.ndarray | None, options: KSpaceOptions, notes: list[str]
) -> np.ndarray:
    measured = (kspace != 0).any(axis=0)
    if not measured.any():
        raise FileFormatError(f"{path.name} holds only zeros; there is no sample to reconstruct from.")
    if given is None:
        sampled, source = measured, "recovered from the zeros"
    else:
        sampled, source = _given_mask(given, measured.shape, options), "given"
    share = float(sampled.mean())
    full = " Taken as fully sampled Cartesian k-space (radial data would be wrong here)." if share == 1 else ""
    notes.append(f"Sampling mask {source}: {share:.4g} of the grid.{full}")
    return sampled


def _given_mask(given: np.ndarray, shape: tuple[int, ...], options: KSpaceOptions) -> np.ndarray:
    """The mask on the grid (z, y, x), from one of the axes of k-space or of its last two."""
    mask = np.asarray(given) != 0
    axes = [] if options.axes == "auto" else [a for a in options.axes.replace("slice", "z").split(",") if a != "coil"]
    axes = [a for a in axes if a != "z"] if mask.ndim == 2 else axes
    if len(axes) == mask.ndim:
        mask = mask.transpose([axes.index(a) for a in "zyx" if a in axes])
    mask = mask[None] if mask.ndim == 2 else mask
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError as error:
        raise FileFormatError(
            f"The mask has shape {given.shape}, but k-space is {shape}; give (y, x) or (z, y, x)."
        ) from error
    return mask if options.centred else np.fft.fftshift(mask, axes=(1, 2) if "slice" in options.axes else None)


def _spacing(stored: np.ndarray | None, options: KSpaceOptions) -> tuple[float, float, float] | None:
    if options.spacing_mm is not None:
        try:
            values = [float(word) for word in options.spacing_mm.replace(";", ",").split(",")]
        except ValueError:
            values = []
    elif stored is not None:
        values = [float(v) for v in np.ravel(stored)]
    else:
        return None
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(is_length(v) for v in values):
        raise ParameterError(
            f"spacing_mm must be one length or three (z, y, x), from {SHORTEST_MM:g} to {LONGEST_MM:g} mm; got "
            f"{shown(options.spacing_mm or stored)}. Set option 'spacing_mm'."
        )
    return (values[0], values[1], values[2])


NPY_READER = Reader(
    name="kspace",
    title="Cartesian k-space in .npy",
    expects="complex numbers with 2 to 4 axes",
    container="npy",
    extensions=(".npy",),
    sniff=sniff_npy,
    read=read_npy,
    options=KSpaceOptions,
    holds="(y, x), (coil, y, x) or (coil, z, y, x), zero where not sampled",
)
NPZ_READER = Reader(
    name="kspace-npz",
    title="Cartesian k-space in .npz",
    expects="a complex array named kspace",
    container="npz",
    extensions=(".npz",),
    sniff=sniff_npz,
    read=read_npz,
    options=KSpaceOptions,
    holds="`mask`, `csm`, `spacing_mm`",
)
