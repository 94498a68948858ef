"""ISMRMRD (MRD) raw data in HDF5: one row {head, traj, data} per readout beside an XML header.

Inati et al., ISMRM Raw Data: a proposed standard, doi:10.1002/mrm.26089. Cartesian readouts go onto the lattice of the
encoded space by their counters; others keep their trajectory. Noise scans whiten the coils.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.guards import check_memory
from napari_unroll.io.hdf5 import dataset, open_hdf5, text_of
from napari_unroll.io.mrd_epi import EchoPlanar, echo_planar
from napari_unroll.io.mrd_header import LARGEST_HEADER, Encoding, parse_header
from napari_unroll.io.mrd_rows import CALIBRATION, NOISE, REVERSED, Rows, rows_of
from napari_unroll.io.mri_scan import cartesian_scan, compressed, lengths_or_none, one_volume, without_oversampling
from napari_unroll.io.reader import Reader
from napari_unroll.io.readouts import Lattice, ReadoutOptions, chosen, slice_places, white, whitening
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

OTHER = (23, 24, 26, 27, 28, 29, 30, 31)
"""Flags of navigators, phase correction, feedback, dummies, surface coil correction, phase stabilisation: no image."""


PARALLEL = 0.99
"""Least cosine between Cartesian readouts."""


class MrdOptions(ReadoutOptions):
    """Which of the images in the file, and what its trajectory is counted in."""

    encoding: int | None = Field(default=None, ge=0, le=MOST, description="Which encoding space, counted from 0.")
    trajectory_unit: Literal["auto", "voxel", "field-of-view"] = Field(
        default="auto",
        description="Trajectories in cycles per voxel (within ±0.5) or per field of view; auto: by the largest.",
    )


def sniff(path: Path) -> bool:
    """Whether there is a group with an xml header and a table of readouts."""
    with open_hdf5(path) as file:
        return _group(file) is not None


def _group(file: h5py.File) -> str | None:
    """The name of the first group with a header and a table of readouts."""
    for name in file:
        table, header = dataset(file, f"{name}/data"), dataset(file, f"{name}/xml")
        if header is not None and table is not None and {"head", "data", "traj"} <= set(table.dtype.names or ()):
            return str(name)
    return None


def read(path: Path, options: MrdOptions) -> Scan:
    """The one image that the options name."""
    notes: list[str] = []
    with open_hdf5(path, texts=True) as file:
        group = _group(file)
        if group is None:
            raise FileFormatError(f"{path.name} has no table of readouts beside an XML header.")
        encodings = parse_header(text_of(file[f"{group}/xml"], LARGEST_HEADER), path.name)
        rows = rows_of(file[f"{group}/data"], path)
        encoding, wanted = _wanted(rows, encodings, options, notes)
        whiten = _whitening(rows, wanted, notes)
        if encoding.trajectory in ("", "cartesian"):
            _refuse_turning(rows, wanted)
            return _cartesian(path, rows, wanted, encoding, whiten, options, notes)
        if encoding.trajectory == "epi":
            planar = echo_planar(rows, wanted, encoding, notes)
            return _cartesian(path, rows, wanted, encoding, whiten, options, notes, planar)
        return _along_trajectory(path, rows, wanted, encoding, whiten, options, notes)


def _refuse_turning(rows: Rows, wanted: np.ndarray, most: int = 64) -> None:
    """Raise where readouts that the header calls Cartesian have trajectories that turn from one to the next."""
    dims = rows.heads["trajectory_dimensions"][wanted]
    some = wanted[(dims == dims[0]) & (dims > 1)]
    if not len(some):
        return
    along = np.stack([traj[-1] - traj[0] for _, _, traj in rows.samples(some[:: -(-len(some) // most)])]).astype(float)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-30)
    if (np.abs(along @ along[0]) < PARALLEL).any():
        raise FileFormatError(
            f"The header of {rows.name} calls its readouts Cartesian, but their trajectories turn: name the trajectory (radial, "
            "spiral, other) in the header, so that they are read along it."
        )


def _wanted(
    rows: Rows, encodings: list[Encoding], options: MrdOptions, notes: list[str]
) -> tuple[Encoding, np.ndarray]:
    """The encoding, and the rows of the image, (row,)."""
    heads = rows.heads
    space = heads["encoding_space_ref"].astype(int)
    embedded = np.array([e.embedded for e in encodings])[np.minimum(space, len(encodings) - 1)]
    skip = rows.flagged(NOISE, *OTHER) | (rows.flagged(CALIBRATION) & ~embedded) | (heads["number_of_samples"] == 0)
    keep = np.flatnonzero(~skip)
    if not len(keep):
        raise FileFormatError(f"{rows.name} has {len(heads)} readouts, none of them of an image.")
    idx = heads["idx"][keep]
    counters = {"encoding": space[keep]} | {name: idx[name] for name in ("contrast", "repetition", "phase", "set")}
    keep = keep[chosen(counters, options, rows.name)]
    if space[keep[0]] >= len(encodings):
        raise FileFormatError(f"{rows.name} uses encoding {space[keep[0]]}, but its header describes {len(encodings)}.")
    channels = np.unique(heads["active_channels"][keep])
    if len(channels) > 1 or channels[0] == 0:
        raise FileFormatError(
            f"The readouts of {rows.name} have {channels[0]} to {channels[-1]} coils; expected as many in all."
        )
    notes.append(f"{len(keep)} of {len(heads)} readouts, {channels[0]} coils; {int(skip.sum())} are of no image.")
    return encodings[space[keep[0]]], keep


def _whitening(rows: Rows, wanted: np.ndarray, notes: list[str]) -> np.ndarray | None:
    """The matrix that whitens the coils, from the noise scans of the file, or None without any."""
    n_coils = rows.heads["active_channels"][wanted[0]]
    noise = np.flatnonzero(rows.flagged(NOISE) & (rows.heads["active_channels"] == n_coils))[:256]
    return whitening([samples for _, samples, _ in rows.samples(noise)], notes)


def _in_slice(
    rows: Rows, wanted: np.ndarray, options: MrdOptions, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """The wanted rows of the slice that was asked for (of all otherwise), their places, and the slices' distance in mm."""
    heads = rows.heads[wanted]
    along = (heads["position"].astype(float) * heads["slice_dir"]).sum(axis=1)
    place, distance = slice_places(heads["idx"]["slice"], along)
    n = int(place.max()) + 1
    if n > 1:
        notes.append(f"{n} slices, {distance:g} mm apart." if distance else f"{n} slices; their order is the file's.")
    if options.slice is None:
        return wanted, place, distance
    if options.slice >= n:
        raise MissingInformation(f"{rows.name} has {n} slices, counted from 0; set option 'slice'.", "slice")
    keep = place == options.slice
    return wanted[keep], np.zeros(int(keep.sum()), int), distance


def _cartesian(
    path: Path, rows: Rows, wanted: np.ndarray, encoding: Encoding, whiten: np.ndarray | None, options: MrdOptions,
    notes: list[str], planar: EchoPlanar | None = None,
) -> Scan:  # fmt: skip
    wanted, slices, distance = _in_slice(rows, wanted, options, notes)
    place = dict(zip(wanted.tolist(), slices.tolist(), strict=True))
    heads, shape = rows.heads, encoding.encoded.matrix
    n = heads["number_of_samples"][wanted].astype(int)
    lattice = Lattice(int(slices.max()) + 1, int(heads["active_channels"][wanted[0]]), shape, int(n.sum()), path.name)
    middle = [shape[a] // 2 if encoding.centre[a] is None else encoding.centre[a] for a in (0, 1)]
    reverse = rows.flagged(REVERSED)
    centred = bool((heads["center_sample"][wanted] == 0).all())
    for row, samples, trajectory in rows.samples(wanted):
        head = heads[row]
        pre, post = int(head["discard_pre"]), samples.shape[1] - int(head["discard_post"])
        centre = samples.shape[1] // 2 if centred else int(head["center_sample"])
        samples, first = samples[:, pre : max(pre, post)], pre - centre
        if planar is not None:
            samples, first = planar.line(row, samples, trajectory[pre : max(pre, post)]), -(shape[2] // 2)
        elif reverse[row]:
            samples, first = samples[:, ::-1], centre - post + 1
        steps = (int(head["idx"]["kspace_encode_step_2"]), int(head["idx"]["kspace_encode_step_1"]))
        z, y = (shape[a] // 2 + steps[a] - middle[a] for a in (0, 1))  # type: ignore[operator]
        lattice.put((place[row], z, y), shape[2] // 2 + first, white(samples, whiten))
    if reverse[wanted].any():
        notes.append(f"{int(reverse[wanted].sum())} readouts were taken backwards and are turned.")
    kspace, mask = lattice.mean()
    kspace, mask = without_oversampling(kspace, mask, encoding.columns, -1, notes)
    voxel = encoding.encoded.voxel_mm
    spacing = lengths_or_none(distance if distance and shape[0] == 1 else voxel[0], *voxel[1:])
    volume, sampled = one_volume(kspace, mask, notes)
    notes.append(f"Sampled: {float(sampled.mean()):.4g} of the grid of {sampled.shape}.")
    return cartesian_scan(path.stem, volume, sampled, spacing, None, options, notes)


def _along_trajectory(
    path: Path, rows: Rows, wanted: np.ndarray, encoding: Encoding, whiten: np.ndarray | None, options: MrdOptions,
    notes: list[str],
) -> Scan:  # fmt: skip
    wanted, slices, _ = _in_slice(rows, wanted, options, notes)
    if slices.max() > 0:
        raise MissingInformation(
            f"{path.name} has {slices.max() + 1} slices along a trajectory; choose one by option 'slice'.", "slice"
        )
    heads = rows.heads[wanted]
    lengths = ("number_of_samples", "discard_pre", "discard_post", "trajectory_dimensions")
    sizes = set(zip(*(heads[name].tolist() for name in lengths), strict=True))
    n, pre, post, dims = sizes.pop()
    if sizes or dims not in (2, 3) or n <= pre + post:
        raise FileFormatError(
            f"The {encoding.trajectory} readouts of {path.name} should have a trajectory in 2 or 3 dimensions and one length."
        )
    check_memory(len(wanted) * (n - pre - post) * (16 * int(heads["active_channels"][0]) + 40), path.name)
    samples, trajectory = [], []
    for _, values, traj in rows.samples(wanted):
        samples.append(white(values[:, pre : n - post], whiten).astype(np.complex64))
        trajectory.append(traj[pre : n - post])
    k, weights, shape = _positions(np.stack(trajectory).astype(float), heads, encoding, options, notes)
    values = np.stack(samples, axis=1)
    notes.append("No coil maps; they are estimated from the middle of k-space.")
    spacing = lengths_or_none(*encoding.encoded.voxel_mm)
    scan = Scan(
        measurements=values if weights is None else (values * np.sqrt(weights)).astype(np.complex64),
        geometry=NonCartesianSampling(trajectory=k, shape=shape, n_coils=len(values), weights=weights),
        grid=VolumeGrid(shape=shape, spacing_mm=spacing or (1.0, 1.0, 1.0)),  # type: ignore[arg-type]
        name=path.stem,
        notes=tuple(notes),
    )
    return compressed(scan, options)


def _positions(
    k: np.ndarray, heads: np.ndarray, encoding: Encoding, options: MrdOptions, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int, int]]:
    """Trajectory (shot, readout, 3) as z, y, x in cycles per voxel, the density of its samples or None, and the grid."""
    matrix, weights = encoding.encoded.matrix, None
    if matrix[0] == 1 and k.shape[2] == 3:
        third, k = k[..., 2], k[..., :2]
        weights = third if third.max() > 0 and third.min() >= 0 else None
        if weights is not None:
            notes.append("The third number of the trajectory is taken as the density of the samples.")
    flat = k.shape[2] == 2
    k = k[..., ::-1] / np.array(_unit(k, matrix, options, notes))[3 - k.shape[2] :]
    if flat:
        steps = heads["idx"]["kspace_encode_step_2"].astype(float)
        middle = matrix[0] // 2 if encoding.centre[0] is None else encoding.centre[0]
        z = np.where(matrix[0] > 1, (steps - middle) / matrix[0], 0.0)
        k = np.concatenate([np.broadcast_to(z[:, None, None], (*k.shape[:2], 1)), k], axis=2)
    same = np.allclose(encoding.recon.voxel_mm, encoding.encoded.voxel_mm, rtol=0.02)
    return k, weights, encoding.recon.matrix if same else matrix


def _unit(k: np.ndarray, matrix: tuple[int, int, int], options: MrdOptions, notes: list[str]) -> tuple[int, int, int]:
    """What the trajectory is divided by, per axis z, y, x: the matrix where it is in cycles per field of view."""
    largest = float(np.abs(k).max())
    unit = options.trajectory_unit
    if unit == "auto":
        unit = "voxel" if largest <= 0.5 + 1e-3 else "field-of-view"
        notes.append(
            f"The trajectory reaches {largest:.4g}: taken as cycles per {unit.replace('-', ' ')}; option 'trajectory_unit'."
        )
    return (1, 1, 1) if unit == "voxel" else matrix


READER = Reader(
    name="ismrmrd",
    title="ISMRMRD (MRD) raw data",
    expects="a table of readouts (head, traj, data) beside an xml header",
    container="hdf5",
    extensions=(".h5", ".mrd"),
    sniff=sniff,
    read=read,
    options=MrdOptions,
    holds="Cartesian, echo-planar or with a trajectory; noise scans whiten the coils; options `slice`, `contrast`, `repetition`, …",
)
