"""k-space along a trajectory: pyqmri's HDF5, and .npz archives with a trajectory.

pyqmri (Maier et al., JOSS 2020, doi:10.21105/joss.02727) stores real_dat and imag_dat (scan, coil, slice, spoke, sample), times
√density where the attribute data_normalized_with_dcf says so, real_traj and imag_traj (scan, spoke, sample) in cycles per voxel,
dcf and Coils (coil, slice, ., .). The maps' first axis runs along the real part of the trajectory.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import checked, dataset, load, open_hdf5
from napari_unroll.io.mri_scan import CoilOptions, compressed
from napari_unroll.io.npy_header import Archive
from napari_unroll.io.number_files import angles_from
from napari_unroll.io.reader import Reader
from napari_unroll.record import FileName
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import GOLDEN_ANGLE_RAD, NonCartesianSampling

TURNS = ("full-turn", "half-turn", "golden")
NEEDED = ("real_dat", "imag_dat", "real_traj", "imag_traj", "dcf")
WEIGHTED = "data_normalized_with_dcf"
"""The attribute that says whether samples are stored times √dcf; pyqmri itself weighs them otherwise."""


class PyqmriOptions(CoilOptions):
    """Which of the series of scans in a file."""

    index: int = Field(default=0, ge=0, le=MOST, description="Which scan of the series (flip angle, echo).")
    slice: int = Field(default=0, ge=0, le=MOST, description="Which slice.")
    voxel_mm: float = Field(
        default=1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Voxel size in mm; such files do not hold it."
    )


class SpokeOptions(CoilOptions):
    """How spokes turn, where a file does not say it."""

    angles: FileName | None = Field(
        default=None,
        description="How the spokes turn: full-turn or half-turn (even steps), golden, or a file or range first:last in degrees.",
    )
    clockwise: bool = Field(default=False, description="The spokes turn the other way round: the picture is mirrored.")


def need_angles(path: Path, options: SpokeOptions) -> None:
    """Raise MissingInformation where nobody said how the spokes turn."""
    if options.angles is None:
        raise MissingInformation(
            f"{path.name} does not say how its spokes turn; set option 'angles' to {', '.join(TURNS)}, or give a file.",
            "angles",
        )


def spoke_angles(path: Path, options: SpokeOptions, n: int) -> np.ndarray:
    """The angle of each of ``n`` spokes from x towards y, radians."""
    word = options.angles or ""
    steps = {"full-turn": 2 * np.pi / n, "half-turn": np.pi / n, "golden": GOLDEN_ANGLE_RAD}
    angle = steps[word] * np.arange(n) if word in steps else angles_from(word, n, path, "degrees")
    return -angle if options.clockwise else angle


def spokes(angles_rad: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trajectory (spoke, sample, 3) as z, y, x of spokes at distances ``k`` (sample,) from k = 0, and its density.

    The density is the distance from k = 0, at it a quarter of a sample (spoke, sample).
    """
    unit = np.stack([0 * angles_rad, np.sin(angles_rad), np.cos(angles_rad)], axis=1)
    step = float(np.diff(k).max(initial=1e-9))
    density = np.maximum(np.abs(k), 0.25 * step) / (step * len(k))
    return k[None, :, None] * unit[:, None], np.broadcast_to(density, (len(angles_rad), len(k)))


class TrajectoryOptions(CoilOptions):
    """What an archive does not say."""

    size: int | None = Field(
        default=None, ge=1, le=MOST, description="Voxels along y and x, without coil maps; empty: half a readout."
    )
    voxel_mm: float = Field(default=1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Voxel size in mm.")


def sniff_hdf5(path: Path) -> bool:
    """Whether samples and trajectory are pairs of real datasets."""
    with open_hdf5(path) as file:
        return all(dataset(file, name) is not None for name in NEEDED)


def read_hdf5(path: Path, options: PyqmriOptions) -> Scan:
    """One slice of one scan of the series."""
    with open_hdf5(path) as file:
        parts = [checked(file[name], 5) for name in NEEDED[:2]]
        n_scans, n_coils, n_slices, n_shots, n_readout = parts[0].shape
        if options.index >= n_scans or options.slice >= n_slices:
            raise ParameterError(
                f"{path.name} holds {n_scans} scans of {n_slices} slices, counted from 0; choose others."
            )
        check_memory(16 * n_coils * n_shots * n_readout, path.name)
        real, imaginary = (part[options.index, :, options.slice] for part in parts)
        traj = [load(file[name], 3)[min(options.index, file[name].shape[0] - 1)] for name in NEEDED[2:4]]
        density = load(file["dcf"], 2)
        csm = _maps(file, options.slice)
        is_weighted = bool(np.any(file.attrs.get(WEIGHTED, 0)))
    k = np.stack([np.zeros_like(traj[0]), traj[0], traj[1]], axis=-1)
    notes = [
        f"Scan {options.index} of {n_scans}, slice {options.slice} of {n_slices}: {n_shots} spokes of {n_readout} samples.",
        f"The samples are weighted by the root of their density, {'as they are stored' if is_weighted else 'here'}.",
        f"Voxels of {options.voxel_mm:g} mm, which the file does not hold; set option 'voxel_mm'.",
    ]
    size = _size(csm, n_readout)
    samples = (real + 1j * imaginary) * (1 if is_weighted else np.sqrt(density))
    return along_trajectory(path, samples, k, density, csm, size, options.voxel_mm, notes, options)


def _maps(file: h5py.File, index: int) -> np.ndarray | None:
    stored = dataset(file, "Coils")
    if stored is None:
        return None
    return np.ascontiguousarray(load(stored, 4)[:, [index]], np.complex64)


def _size(csm: np.ndarray | None, n_readout: int) -> tuple[int, int, int]:
    """The grid of the maps, else half the readout, which is usually oversampled twice."""
    return (1, n_readout // 2, n_readout // 2) if csm is None else csm.shape[1:]


def sniff_npz(path: Path) -> bool:
    """Whether there is complex k-space beside a trajectory."""
    headers = Archive(path).headers
    return "trajectory" in headers and "kspace" in headers and headers["kspace"].dtype.kind == "c"


def read_npz(path: Path, options: TrajectoryOptions) -> Scan:
    """Samples of an archive along its trajectory.

    ``kspace`` is complex (coil, shot, readout), ``trajectory`` (shot, readout, 2 or 3) as (z,) y, x in cycles per voxel;
    ``csm`` and ``dcf`` are optional.
    """
    archive = Archive(path)
    kspace, k = archive.load("kspace"), np.asarray(archive.load("trajectory"), float)
    if kspace.ndim != 3 or k.ndim != 3 or k.shape[:2] != kspace.shape[1:] or k.shape[2] not in (2, 3):
        raise FileFormatError(
            f"{path.name} should hold kspace (coil, shot, readout) and a trajectory (shot, readout, 2 or 3); "
            f"it holds shapes {kspace.shape} and {k.shape}."
        )
    k = k if k.shape[2] == 3 else np.concatenate([np.zeros_like(k[..., :1]), k], axis=2)
    csm, density = archive.optional("csm"), archive.optional("dcf")
    csm = None if csm is None else np.asarray(csm if csm.ndim == 4 else csm[:, None], np.complex64)
    notes = [
        "Samples weighted by the root of their density (dcf)." if density is not None else "No density given (dcf)."
    ]
    size = _size(csm, 2 * options.size if options.size else kspace.shape[2])
    if density is not None and density.shape != kspace.shape[1:]:
        raise FileFormatError(f"{path.name} has a density (dcf) of shape {density.shape}; expected {kspace.shape[1:]}.")
    values = kspace if density is None else kspace * np.sqrt(density)
    return along_trajectory(path, values, k, density, csm, size, options.voxel_mm, notes, options)


def along_trajectory(
    path: Path,
    samples: np.ndarray,
    k: np.ndarray,
    weights: np.ndarray | None,
    csm: np.ndarray | None,
    shape: tuple[int, int, int],
    voxel_mm: float | tuple[float, ...],
    notes: list[str],
    options: CoilOptions,
) -> Scan:
    """The scan of ``samples`` (coil, shot, readout), √``weights`` times what was measured, at ``k`` (shot, readout, 3)."""
    sampling = NonCartesianSampling(trajectory=k, shape=shape, n_coils=len(samples), weights=weights)
    maps = "Coil maps given." if csm is not None else "No coil maps; they are estimated from the middle of k-space."
    scan = Scan(
        measurements=np.ascontiguousarray(samples, np.complex64),
        geometry=sampling,
        grid=VolumeGrid(shape=shape, spacing_mm=voxel_mm if isinstance(voxel_mm, tuple) else (voxel_mm,) * 3),  # type: ignore[arg-type]
        csm=csm,
        name=path.stem,
        notes=(*notes, maps),
    )
    return compressed(scan, options)


HDF5_READER = Reader(
    name="pyqmri",
    title="radial k-space of pyqmri",
    expects=f"datasets {', '.join(NEEDED)}",
    container="hdf5",
    extensions=(".h5",),
    sniff=sniff_hdf5,
    read=read_hdf5,
    options=PyqmriOptions,
    holds="`Coils`; times √dcf where `data_normalized_with_dcf` says so; options `index` (which scan of the series), "
    "`slice`, `voxel_mm`",
)
NPZ_READER = Reader(
    name="trajectory-npz",
    title="k-space along a trajectory in .npz",
    expects="complex kspace (coil, shot, readout) and trajectory (shot, readout, 2 or 3)",
    container="npz",
    extensions=(".npz",),
    sniff=sniff_npz,
    read=read_npz,
    options=TrajectoryOptions,
    holds="trajectory (z,) y, x in cycles per voxel; `csm`, `dcf` (density of the samples); options `size`, `voxel_mm`",
)
