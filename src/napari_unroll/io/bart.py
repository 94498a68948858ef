"""BART's arrays, .cfl (samples) with .hdr (sizes), and .ra: k-space on a grid or along a trajectory.

Uecker et al., doi:10.5281/zenodo.592960. Dimensions in order: 0 readout x, 1 y, 2 z, 3 coil, 4 maps, 5 echo, 10 time, 13 slice;
the first runs fastest. Along a trajectory (3, readout, shot) of x, y, z in cycles per field of view, k-space is
(1, readout, shot, coil). Both have k = 0 in the middle and orthonormal transforms.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.interrupt import check
from napari_unroll.io.guards import check_declared, check_memory, container, read_head
from napari_unroll.io.mri_scan import CartesianOptions, across_slices, cartesian_scan, choice
from napari_unroll.io.number_files import locate
from napari_unroll.io.radial import along_trajectory
from napari_unroll.io.reader import Reader
from napari_unroll.record import FileName
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.scan import Scan

COIL, MAPS, ECHO, TIME, SLICE, N_DIMENSIONS = 3, 4, 5, 10, 13, 16
CHOSEN = {ECHO: "echo", TIME: "time", SLICE: "slice"}
RA_MAGIC, RA_COMPLEX = b"rawarray", 4


class BartOptions(CartesianOptions):
    """Which of the images, and the files beside k-space."""

    traj: FileName | None = Field(default=None, description="The trajectory (3, readout, shot): a .cfl file of BART.")
    sens: FileName | None = Field(
        default=None, description="Coil sensitivity maps on the grid of the image: a .cfl file."
    )
    echo: int | None = Field(default=None, ge=0, le=MOST, description="Which echo (dimension 5), counted from 0.")
    time: int | None = Field(default=None, ge=0, le=MOST, description="Which time (dimension 10), counted from 0.")
    slice: int | None = Field(
        default=None, ge=0, le=MOST, description="Which slice (dimension 13), counted from 0; empty: the volume of all."
    )
    size: int | None = Field(
        default=None, ge=1, le=MOST, description="Voxels along y and x for a trajectory; empty: as far as it reaches."
    )
    voxel_mm: float = Field(
        default=1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Voxel size in mm; such files do not hold it."
    )


def sniff(path: Path) -> bool:
    """Anything that begins as such a file is one."""
    return path.is_file()


def read(path: Path, options: BartOptions) -> Scan:
    """The one image that the options name."""
    stored = load_array(path)
    values = _one(stored, options, path.name)
    notes = [
        f"BART array of dimensions {_dimensions(stored)}; voxels of {options.voxel_mm:g} mm, by option 'voxel_mm'."
    ]
    csm = None if options.sens is None else _maps(load_array(_beside(options.sens, path)), notes)
    if options.traj is not None:
        return _along(path, values, csm, options, notes)
    if values.shape[-1] == 1 and values[..., 0].size > values.shape[-4]:
        raise MissingInformation(
            f"{path.name} has one sample along dimension 0, as k-space along a trajectory has; give its file by option 'traj'.",
            "traj",
        )
    kspace = np.ascontiguousarray(values[0], np.complex64)
    if len(values) > 1:
        if kspace.shape[1] > 1:
            raise MissingInformation(f"{path.name} holds {len(values)} slabs; choose one by option 'slice'.", "slice")
        notes.append(f"{len(values)} slices as one volume, transformed across the slices.")
        kspace = across_slices(np.moveaxis(values[:, :, 0], 0, 1))
    mask = np.zeros(kspace.shape[1:], bool)
    for coil in kspace:
        check()
        mask |= coil != 0
    notes.append(f"Sampled, by what is not zero: {float(mask.mean()):.4g} of the grid of {mask.shape}.")
    return cartesian_scan(path.stem, kspace, mask, (options.voxel_mm,) * 3, csm, options, notes)


def load_array(path: Path) -> np.ndarray:
    """The array of a .cfl, its .hdr, or a .ra file, complex64, its dimensions in reverse: the first of BART is the last."""
    if container(path) == "rawarray":
        return _load_ra(path)
    samples, header = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    for part in (samples, header):
        if not part.is_file():
            raise FileFormatError(f"{part.name} is missing beside {path.name}; a BART array is both files.")
    lines = read_head(header, 100_000).decode("ascii", "replace").splitlines()
    at = next((k for k, line in enumerate(lines) if line.strip() == "# Dimensions"), len(lines))
    words = lines[at + 1].split() if at + 1 < len(lines) else []
    if not 1 <= len(words) <= N_DIMENSIONS or not all(w.isdecimal() and 1 <= int(w) <= MOST for w in words):
        raise FileFormatError(
            f"{header.name} should list up to {N_DIMENSIONS} sizes under '# Dimensions'; it is damaged."
        )
    return _load(samples, [int(w) for w in words], 0)


def _load(path: Path, sizes: list[int], offset: int) -> np.ndarray:
    shape = (*[1] * (N_DIMENSIONS - len(sizes)), *sizes[::-1])
    n_bytes = 8
    for size in sizes:
        n_bytes *= size
    check_declared(path, offset + n_bytes, f"an array of dimensions {tuple(sizes)}")
    if path.stat().st_size != offset + n_bytes:
        raise FileFormatError(
            f"{path.name} has more bytes than the dimensions {tuple(sizes)} of its header need: one is damaged."
        )
    check_memory(4 * n_bytes, path.name)
    return np.fromfile(path, "<c8", n_bytes // 8, offset=offset).reshape(shape)


def _load_ra(path: Path) -> np.ndarray:
    """The array of a .ra file: magic, flags, kind, bytes of an element, bytes, number of dimensions, dimensions."""
    head = read_head(path, 48 + 8 * N_DIMENSIONS)
    if len(head) < 48:
        raise FileFormatError(f"{path.name} ends within its header; copy it again.")
    _, flags, kind, element, _, n = struct.unpack_from("<6Q", head)
    if flags or kind != RA_COMPLEX or element != 8 or not 1 <= n <= N_DIMENSIONS or len(head) < 48 + 8 * n:
        raise FileFormatError(
            f"{path.name} should hold complex64 numbers of up to {N_DIMENSIONS} dimensions, not compressed."
        )
    sizes = list(struct.unpack_from(f"<{n}Q", head, 48))
    if not all(1 <= size <= MOST for size in sizes):
        raise FileFormatError(f"{path.name} declares the dimensions {tuple(sizes)}; it is damaged.")
    return _load(path, sizes, 48 + 8 * n)


def _dimensions(stored: np.ndarray) -> str:
    sizes = stored.shape[::-1]
    last = max((k for k, n in enumerate(sizes) if n > 1), default=0)
    return " x ".join(map(str, sizes[: last + 1]))


def _one(stored: np.ndarray, options: BartOptions, name: str) -> np.ndarray:
    """The samples (slice, coil, z, y, x) of the image that the options name."""
    for dimension in range(MAPS, N_DIMENSIONS):
        axis, what = N_DIMENSIONS - 1 - dimension, CHOSEN.get(dimension)
        n = stored.shape[axis]
        wanted = choice(what, getattr(options, what), n) if what is not None else None
        if wanted is not None:
            stored = np.take(stored, [wanted], axis)
        elif n > 1 and what is None:
            raise FileFormatError(
                f"{name} has {n} along dimension {dimension}, of which a scan has one; take one by 'bart slice'."
            )
        elif n > 1 and dimension != SLICE:
            raise MissingInformation(
                f"{name} holds {n} along {what} (dimension {dimension}); choose one by option {what!r}.", str(what)
            )
    return stored.reshape(stored.shape[N_DIMENSIONS - 1 - SLICE], *stored.shape[-COIL - 1 :])


def _maps(stored: np.ndarray, notes: list[str]) -> np.ndarray:
    """Coil maps (coil, z, y, x), the first set of several."""
    if stored.shape[-1 - MAPS] > 1:
        notes.append(f"The first of {stored.shape[-1 - MAPS]} sets of coil maps.")
    return np.ascontiguousarray(stored.reshape(-1, *stored.shape[-COIL - 1 :])[0])


def _beside(text: str, path: Path) -> Path:
    """The file of a name as BART takes it, without a suffix, or with one."""
    found = locate(text, path)
    return found if found.is_file() else locate(f"{text}.cfl", path)


def _along(path: Path, values: np.ndarray, csm: np.ndarray | None, options: BartOptions, notes: list[str]) -> Scan:
    stored = load_array(_beside(options.traj or "", path))
    k = np.real(stored.reshape(-1, stored.shape[-2], stored.shape[-1])).astype(float)
    samples = np.moveaxis(values[..., 0], 1, 0).reshape(values.shape[1], -1, values.shape[-2])
    if len(values) > 1 or k.shape[2] != 3 or k.shape[:2] != samples.shape[1:]:
        raise FileFormatError(
            f"k-space and trajectory should be (1, readout, shot, coil) and (3, readout, shot), of one slice; they are "
            f"{_dimensions(values)} and {_dimensions(stored)}."
        )
    reach = [1 if not r > 1e-3 else 2 * int(np.ceil(r - 1e-3)) for r in np.abs(k).max(axis=(0, 1))[::-1].tolist()]
    size = options.size or max(reach[1:])
    shape = csm.shape[1:] if csm is not None else (reach[0], size, size)
    notes.append(f"The trajectory is in cycles per field of view of {max(reach[1:])} voxels.")
    k = k[..., ::-1] / np.array([reach[0], max(reach[1:]), max(reach[1:])])
    return along_trajectory(path, samples, k, None, csm, shape, options.voxel_mm, notes, options)


CFL_READER = Reader(
    name="bart",
    title="BART array (.cfl, .hdr)",
    expects="its header, with dimensions in BART's order",
    container="bart",
    extensions=(".cfl", ".hdr"),
    sniff=sniff,
    read=read,
    options=BartOptions,
    holds="k-space; options `traj`, `sens` (files beside it), `echo`, `time`, `slice`",
)
RA_READER = Reader(
    name="rawarray",
    title="BART array (.ra)",
    expects="the magic word rawarray, complex64",
    container="rawarray",
    extensions=(".ra",),
    sniff=sniff,
    read=read,
    options=BartOptions,
    holds="the same",
)
