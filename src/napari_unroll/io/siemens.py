"""Siemens raw data (.dat, "twix"), software VB and VD or later: Cartesian readouts by their headers, and spokes.

Spokes are numbered by their line counter; how they turn is not in the file and asked for. Partitions of a stack are Cartesian.
The walk over the measurement data headers is pymapvbvd's; the samples are read here, at the places that it finds, against
the file's own size. Names of the protocol are those of its section MeasYaps.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.interrupt import stage
from napari_unroll.io.guards import check_declared, rare
from napari_unroll.io.mri_scan import cartesian_scan, choice, lengths_or_none, one_volume, without_oversampling
from napari_unroll.io.radial import SpokeOptions, along_trajectory, need_angles, spoke_angles, spokes
from napari_unroll.io.reader import Reader
from napari_unroll.io.readouts import Lattice, ReadoutOptions, chosen, slice_places, white, whitening
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan

TITLE = "Siemens raw data"
LARGEST_PROTOCOL = 100_000_000
ASSIGNMENT = re.compile(rb"^([\w.\[\]]+)[ \t]*=[ \t]*(0x[0-9a-fA-F]+|[-+.\deE]+)", re.MULTILINE)
CARTESIAN, RADIAL, THREE_D, CALIBRATION_INSIDE = 1, 2, 4, 2
"""Values of ucTrajectory (two), ucDimension and ucRefScanMode."""
TRAJECTORIES = {4: "spiral", 8: "BLADE (PROPELLER)"}
"""Other values of ucTrajectory."""
COUNTERS = {"contrast": "Eco", "repetition": "Rep", "phase": "Phs", "set": "Set"}


class SiemensOptions(ReadoutOptions, SpokeOptions):
    """Which of the measurements and images in the file, and how spokes turn."""

    measurement: int | None = Field(
        default=None, ge=0, le=MOST, description="Which measurement of the file, counted from 0; empty: the last."
    )


@dataclass(frozen=True)
class Lines:
    """Readouts of one kind, by the names of pymapvbvd's record of them; ``vd`` is the newer layout of headers."""

    path: Path
    found: Any
    vd: bool

    def of(self, name: str) -> np.ndarray:
        """One number of every readout, (readout,)."""
        return np.asarray(getattr(self.found, name), float)

    @property
    def counts(self) -> tuple[int, int]:
        """Samples of a readout, and coils."""
        return int(self.found.NCol), int(self.found.NCha)

    def samples(self, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(readout, samples (coil, sample)) of the wanted readouts."""
        n, n_coils = self.counts
        scan_header, channel_header = (192, 32) if self.vd else (0, 128)
        places = self.of("memPos").astype(np.int64)
        size = scan_header + n_coils * (channel_header + 8 * n)
        check_declared(self.path, int(places.max()) + size, f"{len(places)} readouts")
        with stage(len(wanted), "reading k-space") as done, self.path.open("rb") as file:
            for k, line in enumerate(wanted):
                done(k)
                file.seek(int(places[line]))
                stored = file.read(size)
                if struct.unpack_from("<HH", stored, 48 if self.vd else 28) != (n, n_coils):
                    raise FileFormatError(
                        f"The readouts of {self.path.name} have different lengths, which no grid can hold."
                    )
                block = np.frombuffer(stored, np.uint8, offset=scan_header).reshape(n_coils, -1)[:, channel_header:]
                yield int(line), np.ascontiguousarray(block).view(np.complex64)


def sniff(path: Path) -> bool:
    """Anything that begins as such a file is one."""
    return path.is_file()


def read(path: Path, options: SiemensOptions) -> Scan:
    """The one image that the options name."""
    library = rare("mapvbvd", TITLE)
    starts, vd = _measurements(path)
    index = choice("measurement", options.measurement, len(starts))
    number = len(starts) - 1 if index is None else index
    protocol = _protocol(path, starts[number])
    found = _walk(library, path)
    if not hasattr(found[number], "image"):
        raise FileFormatError(
            f"Measurement {number} of {path.name} holds no image; choose another by option 'measurement'."
        )
    _refuse_other_readouts(path, protocol, hasattr(found[number], "phasecor"))
    notes = [f"Measurement {number} of {len(starts)}."]
    parts = [Lines(path, found[number].image, vd)]
    inside = int(protocol.get("sPat.ucRefScanMode", 0)) == CALIBRATION_INSIDE
    if inside and hasattr(found[number], "refscan"):
        parts.append(Lines(path, found[number].refscan, vd))
    noise = _noise([Lines(path, m.noise, vd) for m in found if hasattr(m, "noise")], parts[0].counts[1])
    whiten = whitening(noise, notes)
    if int(protocol.get("sKSpace.ucTrajectory", CARTESIAN)) == RADIAL:
        return _spokes(path, parts[0], protocol, whiten, options, notes)
    return _scan(path, parts, protocol, whiten, options, notes)


def _refuse_other_readouts(path: Path, protocol: dict[str, float], corrects_phase: bool) -> None:
    """Raise for readouts that are no lines of a lattice, or not as they are stored."""
    trajectory = int(protocol.get("sKSpace.ucTrajectory", CARTESIAN))
    if trajectory not in (CARTESIAN, RADIAL):
        raise FileFormatError(
            f"{path.name} holds {TRAJECTORIES.get(trajectory, 'non-Cartesian')} readouts, and Siemens files do not say where in "
            "k-space they were taken; only Cartesian ones and spokes are read. Convert it to ISMRMRD with a trajectory, or to "
            ".npz (kspace, trajectory)."
        )
    if corrects_phase or protocol.get("sFastImaging.lEPIFactor", 1) > 1:
        raise FileFormatError(
            f"{path.name} holds echo-planar readouts, which need regridding and a correction of their phase first; only plain "
            "Cartesian ones are read. Do both, and save Cartesian k-space."
        )


def _measurements(path: Path) -> tuple[list[int], bool]:
    """Where the measurements of the file begin, in bytes, and whether its layout is the newer one."""
    with path.open("rb") as file:
        head = file.read(16 + 64 * 152)
    if head[8:14] == b"Config":
        return [0], False
    n = struct.unpack_from("<I", head, 4)[0]
    if len(head) < 16 + 152 * n:
        raise FileFormatError(f"{path.name} ends within its list of measurements; copy it again.")
    starts = [struct.unpack_from("<Q", head, 16 + 152 * k)[0] for k in range(n)]
    check_declared(path, max(starts) + 8, f"{n} measurements")
    return starts, True


def _protocol(path: Path, start: int) -> dict[str, float]:
    """The numbers of the protocol by their names, from the header of the measurement."""
    with path.open("rb") as file:
        file.seek(start)
        length = struct.unpack("<I", file.read(4))[0]
        check_declared(path, start + length, "a protocol")
        text = file.read(min(length, LARGEST_PROTOCOL))
    found = {}
    for name, value in ASSIGNMENT.findall(text):
        try:
            found[name.decode("ascii", "replace")] = float(int(value, 16) if value[:2] == b"0x" else float(value))
        except ValueError:
            continue
    return found


def _walk(library: Any, path: Path) -> list[Any]:
    """The headers of every measurement. Raises FileFormatError where the walk does not reach the end."""
    found, reason = None, "it ends within a readout"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = library.mapVBVD(str(path), quiet=True, bReadHeader=False)
        except Exception as error:
            reason = str(error).split("\n")[0] or type(error).__name__
    if found is None or any("unexpected read error" in str(warning.message) for warning in said):
        raise FileFormatError(
            f"The readouts of {path.name} cannot be followed to their end ({reason}); the recording or the copy was interrupted."
        )
    return found if isinstance(found, list) else [found]


def _noise(found: list[Lines], n_coils: int) -> list[np.ndarray]:
    """Readouts (coil, sample) of the first noise scan with as many coils."""
    lines = next((lines for lines in found if lines.counts[1] == n_coils), None)
    if lines is None:
        return []
    return [samples for _, samples in lines.samples(np.arange(min(256, int(lines.found.NAcq))))]


def _scan(
    path: Path, parts: list[Lines], protocol: dict[str, float], whiten: np.ndarray | None, options: SiemensOptions,
    notes: list[str],
) -> Scan:  # fmt: skip
    counters = {name: np.concatenate([part.of(theirs) for part in parts]) for name, theirs in COUNTERS.items()}
    keep = chosen(counters, options, path.name)
    place, distance = _places(parts)
    n_slices = int(place.max()) + 1
    if choice("slice", options.slice, n_slices) is not None:
        keep &= place == options.slice
        place = np.zeros_like(place)
    (n, n_coils), part = parts[0].counts, parts[0]
    middle = {name: int(np.median(part.of(f"center{name}"))) for name in ("Lin", "Par")}
    shape = _matrix(parts, protocol, middle)
    lattice = Lattice(int(place[keep].max()) + 1, n_coils, shape, int(keep.sum()) * n, path.name)
    first = 0
    for lines in parts:
        stop = first + int(lines.found.NAcq)
        _place(lattice, lines, np.flatnonzero(keep[first:stop]), place[first:stop], middle, shape, whiten)
        first = stop
    kspace, mask = lattice.mean()
    kspace, mask = without_oversampling(kspace, mask, int(protocol.get("sKSpace.lBaseResolution", 0)), -1, notes)
    notes.append(f"{int(keep.sum())} readouts of {n} samples, {n_coils} coils.")
    if n_slices > 1:
        notes.append(
            f"{n_slices} slices, {distance:g} mm apart." if distance else f"{n_slices} slices in the file's order."
        )
    volume, sampled = one_volume(kspace, mask, notes)
    notes.append(f"Sampled: {float(sampled.mean()):.4g} of the grid of {sampled.shape}.")
    spacing = _voxel_mm(protocol, shape, distance)
    return cartesian_scan(path.stem, volume, sampled, spacing, None, options, notes)


def _places(parts: list[Lines]) -> tuple[np.ndarray, float]:
    """Place of the slice of every readout, and the distance of slices in mm, 0 where unknown."""
    numbers = np.concatenate([part.of("Sli") for part in parts])
    return slice_places(numbers, _along(np.concatenate([part.of("slicePos")[:, :3] for part in parts])))


def _spokes(
    path: Path, lines: Lines, protocol: dict[str, float], whiten: np.ndarray | None, options: SiemensOptions, notes: list[str]
) -> Scan:  # fmt: skip
    """One slice or a stack of spokes, weighted by their density."""
    need_angles(path, options)
    keep = chosen({name: lines.of(theirs) for name, theirs in COUNTERS.items()}, options, path.name)
    place, distance = _places([lines])
    index = choice("slice", options.slice, int(place.max()) + 1)
    if index is None and place.max() > 0:
        raise MissingInformation(
            f"{path.name} holds {int(place.max()) + 1} slices of spokes; choose one by option 'slice'.", "slice"
        )
    wanted = np.flatnonzero(keep & (place == (index or 0)))
    spoke, partition = (lines.of(name).astype(int)[wanted] for name in ("Lin", "Par"))
    n_spokes = max(int(protocol.get("sKSpace.lRadialViews", 0)), int(spoke.max()) + 1)
    n_z = max(int(protocol.get("sKSpace.lPartitions", 1)), int(partition.max()) + 1) if partition.max() > 0 else 1
    trajectory, weights = spokes(spoke_angles(path, options, n_spokes)[spoke], _reach(path, lines, wanted, protocol))
    if n_z > 1:
        middle = int(np.median(lines.of("centerPar")[wanted]))
        trajectory[..., 0] = ((partition - middle) / n_z)[:, None]
    samples = np.stack([white(values, whiten) for values in _turned(lines, wanted)], axis=1)
    size = int(protocol.get("sKSpace.lBaseResolution", 0)) or lines.counts[0] // 2
    shape = (n_z, size, size)
    notes += [
        f"{len(wanted)} spokes of {n_spokes} by their line counters, {len(samples)} coils; {options.angles}, "
        f"{'clockwise' if options.clockwise else 'counter-clockwise'}.",
        "The samples are weighted by the root of their density, the distance from k = 0.",
    ]
    voxel = _voxel_mm(protocol, shape, distance)
    spacing = (voxel[0], voxel[2], voxel[2]) if voxel else 1.0
    return along_trajectory(path, samples * np.sqrt(weights), trajectory, weights, None, shape, spacing, notes, options)


def _reach(path: Path, lines: Lines, wanted: np.ndarray, protocol: dict[str, float]) -> np.ndarray:
    """Distances from k = 0 in cycles per voxel of the samples (sample,) of all spokes, whose readout is oversampled twice."""
    n, centre = lines.counts[0], lines.of("centerCol")
    centres = np.unique(np.where(lines.of("IsReflected") != 0, n - 1 - centre, centre)[wanted])
    if len(centres) > 1 or lines.of("cutOff")[wanted].any():
        raise FileFormatError(
            f"The spokes of {path.name} differ in their centre or leave out samples; expected them all alike."
        )
    reach = np.arange(n) - centres[0]
    return np.asarray(reach / max(2 * int(protocol.get("sKSpace.lBaseResolution", 0)), int(2 * np.abs(reach).max())))


def _turned(lines: Lines, wanted: np.ndarray) -> Iterator[np.ndarray]:
    """Samples (coil, sample), turned where they were taken backwards."""
    reverse = lines.of("IsReflected") != 0
    for line, samples in lines.samples(wanted):
        yield samples[:, ::-1] if reverse[line] else samples


def _along(places: np.ndarray) -> np.ndarray:
    """Positions (readout, 3) of parallel slices along their normal, (readout,), in mm."""
    apart = places - places[:1]
    direction = apart[np.linalg.norm(apart, axis=1).argmax()]
    direction = direction * np.sign(direction[np.abs(direction).argmax()])
    return np.asarray(apart @ direction / max(float(np.linalg.norm(direction)), 1e-30))


def _matrix(parts: list[Lines], protocol: dict[str, float], middle: dict[str, int]) -> tuple[int, int, int]:
    """The encoded matrix (z, y, x): the protocol's, or as large as the readouts reach."""
    n = parts[0].counts[0]
    wide = protocol.get("sKSpace.ucDimension") == THREE_D
    said = (protocol.get("sKSpace.lPartitions", 0) if wide else 0, protocol.get("sKSpace.lPhaseEncodingLines", 0))
    sizes = []
    for name, matrix in zip(("Par", "Lin"), said, strict=True):
        steps = np.concatenate([part.of(name) for part in parts]) - middle[name]
        reach = max(int(-2 * steps.min()), int(2 * steps.max()) + (2 if steps.max() > 0 else 1))
        sizes.append(max(int(matrix), reach))
    centre = int(np.median(parts[0].of("centerCol")))
    columns = 2 * protocol.get("sKSpace.lBaseResolution", 0)
    return sizes[0], sizes[1], max(int(columns), 2 * centre, 2 * (n - centre))


def _place(
    lattice: Lattice, lines: Lines, wanted: np.ndarray, place: np.ndarray, middle: dict[str, int],
    shape: tuple[int, int, int], whiten: np.ndarray | None,
) -> None:  # fmt: skip
    z, y = (
        lines.of(name).astype(int) - middle[name] + n // 2 for name, n in zip(("Par", "Lin"), shape[:2], strict=True)
    )
    centre, reverse = lines.of("centerCol").astype(int), lines.of("IsReflected") != 0
    cut = lines.of("cutOff").astype(int)
    for line, samples in lines.samples(wanted):
        pre, post = cut[line, 0], samples.shape[1] - cut[line, 1]
        samples, first = samples[:, pre : max(pre, post)], pre - centre[line]
        if reverse[line]:
            samples, first = samples[:, ::-1], centre[line] - post + 1
        lattice.put((int(place[line]), int(z[line]), int(y[line])), shape[2] // 2 + int(first), white(samples, whiten))


def _voxel_mm(protocol: dict[str, float], shape: tuple[int, int, int], distance: float) -> tuple[float, ...] | None:
    """Voxel size (z, y, x) by the fields of view of the protocol, or None."""
    slab = "sSliceArray.asSlice[0]."
    read, phase, thick = (protocol.get(slab + name, 0.0) for name in ("dReadoutFOV", "dPhaseFOV", "dThickness"))
    more_y, more_z = (1 + protocol.get(f"sKSpace.d{a}OversamplingForDialog", 0.0) for a in ("Phase", "Slice"))
    z = thick * more_z / shape[0] if shape[0] > 1 else distance or thick
    return lengths_or_none(z, phase * more_y / shape[1], read / max(protocol.get("sKSpace.lBaseResolution", 0), 1))


READER = Reader(
    name="siemens",
    title=TITLE,
    expects="its list of measurements, or its protocol",
    container="siemens",
    extensions=(".dat",),
    sniff=sniff,
    read=read,
    options=SiemensOptions,
    holds="Cartesian readouts, 2-D slices or 3-D; spokes with option `angles`; needs the extra `formats`",
)
