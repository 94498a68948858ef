"""Files of k-space as the formats' own libraries or their published layouts have them, of one small phantom."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

COILS, NY, NX = 3, 12, 16
VOXEL_MM = 2.0


def images(n_slices: int = 1) -> np.ndarray:
    """Coil images (slice, coil, y, x) complex64 of a few boxes, smooth coils."""
    y, x = np.mgrid[-1 : 1 : NY * 1j, -1 : 1 : NX * 1j]
    boxes = np.stack([(np.abs(x - 0.1 * s) < 0.5) * 1.0 + (np.hypot(x, y - 0.2) < 0.3) for s in range(n_slices)])
    coils = np.stack([np.exp(1j * (c * x + y) - (x - c / 2) ** 2) for c in range(COILS)])
    return (boxes[:, None] * coils).astype(np.complex64)


def fft(values: np.ndarray, *axes: int) -> np.ndarray:
    """Centred orthonormal FFT along axes, complex64."""
    turned = np.fft.fftn(np.fft.ifftshift(values, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(turned, axes=axes).astype(np.complex64)


def kspace(n_slices: int = 1) -> np.ndarray:
    """k-space (slice, coil, y, x) of :func:`images`."""
    return fft(images(n_slices), -2, -1)


def header(trajectory: str = "cartesian", matrix: tuple[int, int, int] = (2 * NX, NY, 1), recon_x: int = NX) -> str:
    """An ISMRMRD header as its library writes it: matrix (x, y, z), the readout perhaps oversampled."""
    xsd = pytest.importorskip("ismrmrd.xsd")
    x, y, z = matrix
    spaces = [
        xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=n, y=y, z=z),
            fieldOfView_mm=xsd.fieldOfViewMm(x=n * VOXEL_MM, y=y * VOXEL_MM, z=z * 5.0),
        )
        for n in (x, recon_x)
    ]
    steps = {
        f"kspace_encoding_step_{k}": xsd.limitType(minimum=0, maximum=n - 1, center=n // 2) for k, n in ((1, y), (2, z))
    }
    limits = xsd.encodingLimitsType(**steps)
    encoding = xsd.encodingType(
        encodedSpace=spaces[0], reconSpace=spaces[1], encodingLimits=limits, trajectory=xsd.trajectoryType(trajectory)
    )
    conditions = xsd.experimentalConditionsType(H1resonanceFrequency_Hz=128000000)
    return str(xsd.ToXML(xsd.ismrmrdHeader(experimentalConditions=conditions, encoding=[encoding])))


def write_mrd(path: Path, readouts: list, xml: str, group: str = "dataset") -> Path:
    """``readouts``: (samples (coil, sample), trajectory or None, flags, header fields, counters)."""
    ismrmrd = pytest.importorskip("ismrmrd")
    with ismrmrd.Dataset(str(path), group, create_if_needed=True) as file:
        file.write_xml_header(xml.encode())
        for samples, trajectory, flags, fields, counters in readouts:
            samples = np.ascontiguousarray(samples, np.complex64)
            given = {} if trajectory is None else {"trajectory": np.ascontiguousarray(trajectory, np.float32)}
            known = {"center_sample": samples.shape[1] // 2, "slice_dir": (0, 0, 1)} | fields
            acquisition = ismrmrd.Acquisition.from_array(samples, **given)
            for name, value in known.items():
                if name in ("slice_dir", "position"):
                    getattr(acquisition, name)[:] = value
                else:
                    setattr(acquisition, name, value)
            for flag in flags:
                acquisition.set_flag(flag)
            for name, value in counters.items():
                setattr(acquisition.idx, name, value)
            file.append_acquisition(acquisition)
    return path


def oversampled(values: np.ndarray) -> np.ndarray:
    """k-space (…, x) of twice the field of view along x: the image amid nothing."""
    image = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), np.complex64)
    n = values.shape[-1]
    image[..., n - n // 2 : n - n // 2 + n] = fft_inverse(values, -1)
    return fft(image, -1)


def fft_inverse(values: np.ndarray, *axes: int) -> np.ndarray:
    """The inverse of :func:`fft`."""
    turned = np.fft.ifftn(np.fft.ifftshift(values, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(turned, axes=axes).astype(np.complex64)


def cartesian_readouts(n_slices: int = 1, skip: tuple[int, ...] = ()) -> list:
    """The readouts of :func:`kspace`, twice oversampled, without the lines ``skip``."""
    full = oversampled(kspace(n_slices))
    return [
        (full[s, :, y], None, (), {"position": (0, 0, 5.0 * s)}, {"kspace_encode_step_1": y, "slice": s})
        for s in range(n_slices)
        for y in range(NY)
        if y not in skip
    ]


def write_fastmri(path: Path, n_slices: int, columns: np.ndarray | None = None, masked: bool = True) -> Path:
    """k-space (slice, coil, y, x) whose readout is y; ``columns`` of x that were sampled, with or without a mask."""
    full = np.swapaxes(oversampled(kspace(n_slices)), -1, -2)
    if columns is not None:
        full = full * (np.resize(columns, NY) != 0)
    with h5py.File(path, "w") as file:
        file["kspace"] = full.astype(np.complex64)
        file["ismrmrd_header"] = header()
        if columns is not None and masked:
            file["mask"] = columns.astype(np.float32)
    return path


def write_calgary(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Interleaved hybrid k-space (x, ky, kz, 4) of random images whose plain inverse FFT lies upright; returns it."""
    g = np.random.default_rng(0)
    kspace = (g.normal(size=(*shape, 2)) + 1j * g.normal(size=(*shape, 2))).astype(np.complex64)
    kspace[:, :, int(np.ceil(0.85 * shape[2])) :] = 0
    stored = kspace.view(np.float32).reshape(*shape, 4)
    with h5py.File(path, "w") as file:
        file["kspace"] = stored
    return stored


def write_cfl(stem: Path, values: np.ndarray) -> Path:
    """A BART array of ``values``, whose axes are BART's dimensions in their order."""
    sizes = [*values.shape, *[1] * (16 - values.ndim)]
    stem.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, sizes))} \n")
    values.astype("<c8").ravel(order="F").tofile(stem.with_suffix(".cfl"))
    return stem.with_suffix(".cfl")


def write_ra(path: Path, values: np.ndarray) -> Path:
    """The same in BART's other format."""
    head = np.array([0, 4, 8, values.nbytes, values.ndim, *values.shape], "<u8")
    path.write_bytes(b"rawarray" + head.tobytes() + values.astype("<c8").tobytes(order="F"))
    return path


PROTOCOL = """### ASCCONV BEGIN ###
sKSpace.lBaseResolution\t = \t{x}
sKSpace.lPhaseEncodingLines\t = \t{y}
sKSpace.ucDimension\t = \t0x2
sKSpace.ucTrajectory\t = \t0x1
sSliceArray.asSlice[0].dReadoutFOV\t = \t{fov_x}
sSliceArray.asSlice[0].dPhaseFOV\t = \t{fov_y}
sSliceArray.asSlice[0].dThickness\t = \t5.0
### ASCCONV END ###
"""
NOISE_SCAN, REFLECTED, ACQUISITION_END = 25, 24, 0


def write_siemens(path: Path, readouts: list, protocol_lines: str = "") -> Path:
    """Raw data of software VD, one measurement: readouts of (samples (coil, sample), bits, line, slice, perhaps more)."""
    pytest.importorskip("mapvbvd")
    text = PROTOCOL.format(x=NX, y=NY, fov_x=NX * VOXEL_MM, fov_y=NY * VOXEL_MM).encode() + protocol_lines.encode()
    protocol = np.array([0, 1], "<u4").tobytes() + b"MeasYaps\0" + np.uint32(len(text)).tobytes() + text
    protocol += bytes(-len(protocol) % 32)
    protocol = np.uint32(len(protocol)).tobytes() + protocol[4:]
    body = b"".join(_siemens_readout(*readout) for readout in readouts)
    body += _siemens_readout(np.zeros((0, 0)), (ACQUISITION_END,), 0, 0, {})
    entry = np.array([0, 1, 7, 7], "<u4").tobytes() + np.array([10240, len(protocol) + len(body)], "<u8").tobytes()
    path.write_bytes(entry.ljust(10240, b"\0") + protocol + body + bytes(512))
    return path


def _siemens_readout(samples: np.ndarray, bits: tuple[int, ...], line: int, number: int, more: dict) -> bytes:
    n_coils, n = samples.shape
    head = bytearray(192)
    struct.pack_into("<I", head, 0, 192 + n_coils * (32 + 8 * n))
    struct.pack_into("<I", head, 40, sum(1 << bit for bit in bits))
    struct.pack_into("<7H", head, 48, n, n_coils, line, 0, number, more.get("partition", 0), more.get("echo", 0))
    struct.pack_into("<H", head, 84, more.get("centre", n // 2))
    struct.pack_into("<2H", head, 96, NY // 2, more.get("middle", 0))
    struct.pack_into("<3f", head, 100, 0, 0, 5 * number)
    return bytes(head) + b"".join(bytes(32) + coil.astype("<c8").tobytes() for coil in samples)


def siemens_readouts(n_slices: int = 1) -> list:
    """The readouts of :func:`kspace`, twice oversampled."""
    full = oversampled(kspace(n_slices))
    return [(full[s, :, y], (), y, s, {}) for s in range(n_slices) for y in range(NY)]


LAG = (0.7, 0.11)
"""Phase at the middle and per voxel, radians, by which lines that are taken backwards lag."""


def lagging(line):
    """A line (coil, sample) as it is taken backwards: with the lag, from its end."""
    x = np.arange(line.shape[1]) - line.shape[1] // 2
    return fft(fft_inverse(line, -1) * np.exp(-1j * (LAG[0] + LAG[1] * x)), -1)[:, ::-1]


def echo_planar_readouts(n_slices=1):
    """Three lines that tell the phase, then the lines of the image there and back, slice by slice."""
    readouts = []
    for s in range(n_slices):
        full = oversampled(kspace(n_slices))[s]
        middle = full[:, 6]
        place = {"position": (0, 0, 5.0 * s)}
        readouts += [
            (lagging(middle) if k % 2 else middle, None, (24, 22) if k % 2 else (24,), place, {"slice": s})
            for k in range(3)
        ]
        readouts += [
            (
                lagging(full[:, y]) if y % 2 else full[:, y],
                None,
                (22,) if y % 2 else (),
                place,
                {"kspace_encode_step_1": y, "slice": s},
            )
            for y in range(12)
        ]
    return readouts


RADIAL = "sKSpace.ucTrajectory\t = \t0x2\nsKSpace.lRadialViews\t = \t24\n"


def write_mat(path: Path, version_73: bool) -> None:
    """One slice as MATLAB keeps it, (x, y, coil)."""
    values = np.ascontiguousarray(kspace()[0].transpose(2, 1, 0))
    if not version_73:
        scipy.io.savemat(path, {"kspace": values})
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        file["kspace"] = in_pairs(values)
    with path.open("r+b") as file:
        file.write(MATLAB_73)


MATLAB_73 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"


def in_pairs(values: np.ndarray) -> np.ndarray:
    """An array as MATLAB 7.3 keeps it: axes in reverse, complex numbers as pairs."""
    stored = np.ascontiguousarray(values.T)
    if stored.dtype.kind != "c":
        return stored
    pairs = np.empty(stored.shape, [("real", "<f8"), ("imag", "<f8")])
    pairs["real"], pairs["imag"] = stored.real, stored.imag
    return pairs


def spokes(slices: int = 2, n: int = 20) -> np.ndarray:
    """Samples (slice, spoke, coil, 32), strongest in the middle of the readout."""
    g = np.random.default_rng(0)
    fall = 1 / (1 + np.abs(np.arange(32) - 16)) ** 2
    return ((g.normal(size=(slices, n, 3, 32)) + 1j * g.normal(size=(slices, n, 3, 32)) + 3) * fall).astype(
        np.complex64
    )


MAKERS = {
    "k.mrd": lambda path: write_mrd(path, cartesian_readouts(), header()),
    "radial.mrd": lambda path: write_mrd(
        path, [(np.ones((2, 16)), np.zeros((16, 2)), (), {}, {})] * 3, header("radial")
    ),
    "fastmri.h5": lambda path: write_fastmri(path, 2),
    "calgary.h5": lambda path: write_calgary(path, (3, 8, 10)),
    "k.cfl": lambda path: write_cfl(path, kspace()[0].T[:, :, None]),
    "k.hdr": lambda path: write_cfl(path, kspace()[0].T[:, :, None]),
    "k.ra": lambda path: write_ra(path, kspace()[0].T[:, :, None]),
    "epi.mrd": lambda path: write_mrd(path, echo_planar_readouts(), header("epi")),
    "spokes.dat": lambda path: write_siemens(
        path, [(np.ones((2, 2 * NX)) / (1 + s), (), s, 0, {}) for s in range(24)], RADIAL
    ),
    "meas.dat": lambda path: write_siemens(path, siemens_readouts()),
    "k.mat": lambda path: write_mat(path, False),
    "k73.mat": lambda path: write_mat(path, True),
    "spokes.npy": lambda path: np.save(path, spokes()),
}
"""A sound file of every format of k-space, by its name."""
OPTIONS = {
    "spokes.dat": {"angles": "golden"},
    "k.mat": {"axes": "x,y,coil"},
    "k73.mat": {"axes": "x,y,coil"},
    "spokes.npy": {"format": "radial-npy", "axes": "slice,spoke,coil,readout", "angles": "half-turn", "slice": 0},
}
"""What must be said to read them."""


def write(name: str, folder: Path) -> Path:
    """The sound file of this name."""
    MAKERS[name](folder / name)
    return folder / name
