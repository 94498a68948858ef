"""Files of several formats with one senseless number each, by name: how to write them, and the options to read them."""

import json
import warnings

import h5py
import mrcfile
import numpy as np
import tifffile

from napari_unroll.io.scan_file import write_scan
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, VolumeGrid
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d
from tests.io import samples

INF, NAN = np.inf, np.nan
RANGE = {"angles": "0:180"}


def cone_scan():
    geometry = ConeBeam.circular(
        angles_rad=np.linspace(0, 6, 5),
        source_origin_mm=60,
        source_detector_mm=100,
        detector_shape=(4, 7),
        pixel_mm=(1, 1),
    )
    return Scan(measurements=np.ones((5, 4, 7), np.float32), geometry=geometry, grid=VolumeGrid(shape=(3, 4, 5)))


def spoiled(scan, about=None, arrays=None):
    """Writes a scan file whose JSON or arrays are then changed."""

    def write(path):
        write_scan(path, scan)
        with h5py.File(path, "a") as file:
            stored = json.loads(file["about"][()].tobytes())
            for part, values in (about or {}).items():
                stored[part].update(values)
            del file["about"]
            file["about"] = np.frombuffer(json.dumps(stored).encode(), np.uint8)
            for name, (place, value) in (arrays or {}).items():
                values = file[name][()]
                values[place] = value
                file[name][...] = values
        return {}

    return write


def grid(**values):
    return spoiled(cone_scan(), {"grid": values})


def vector(place, value):
    return spoiled(cone_scan(), arrays={"vectors": (place, value)})


def cartesian():
    return Scan(
        measurements=np.ones((2, 3, 4, 5), np.complex64),
        geometry=CartesianSampling(mask=np.ones((3, 4, 5), bool), n_coils=2),
        grid=VolumeGrid(shape=(3, 4, 5)),
    )


def radial():
    sampling = NonCartesianSampling(trajectory=radial_2d(3, 8), shape=(1, 8, 8), n_coils=1, weights=np.ones((3, 8)))
    return Scan(measurements=np.ones((1, 3, 8), np.complex64), geometry=sampling, grid=VolumeGrid(shape=(1, 8, 8)))


def npz(**values):
    def write(path):
        samples.write_npz(path, **values)
        return {}

    return write


def nxtomo(**values):
    def write(path):
        samples.write_nxtomo(path)
        with h5py.File(path, "a") as file:
            for name, value in values.items():
                found = {"pixel": "entry1/tomo_entry/instrument/detector/x_pixel_size",
                         "angle": "entry1/tomo_entry/sample/rotation_angle"}[name]  # fmt: skip
                file[found][...] = value
        return {}

    return write


def rotation(**values):
    """DXchange without theta, but with the recorded rotation."""

    def write(path):
        samples.write_dxchange(path, theta=False)
        with h5py.File(path, "a") as file:
            for name, value in (
                {"rotation_start": 0.0, "rotation_step": 15.0, "num_angles": samples.N_VIEWS} | values
            ).items():
                file[f"process/acquisition/rotation/{name}"] = value
        return {}

    return write


def fei(pixel_m, tilt=None):
    """An old FEI header: 32 floats per view, tilt first, pixel in metres at 11."""

    def write(path):
        records = np.zeros((samples.N_VIEWS, 32), np.float32)
        records[:, 0], records[:, 11] = samples.ANGLES_DEG - 90 if tilt is None else tilt, pixel_m
        with warnings.catch_warnings(), mrcfile.new(path) as file:
            warnings.simplefilter("ignore", RuntimeWarning)
            file.set_data(samples.line_integrals())
            file.set_extended_header(records.view("V128").reshape(-1))
            file.header.label[0] = b"Fei Company"
        return {}

    return write


def walnut(place, value):
    def write(path):
        orbit = ConeBeam.circular(
            angles_rad=np.linspace(0, 2 * np.pi, 9), source_origin_mm=66, source_detector_mm=199, detector_shape=(6, 8),
            pixel_mm=(0.15, 0.15),
        )  # fmt: skip
        rows = np.array(orbit.vectors)
        rows[place] = value
        path.mkdir()
        np.savetxt(path / "scan_geom_corrected.geom", rows)
        for name, level in (("scan_000003.tif", 600), ("di000000.tif", 100), ("io000000.tif", 1000)):
            tifffile.imwrite(path / name, np.full((8, 6), level, np.uint16))
        return {}

    return write


def kspace(**options):
    def write(path):
        np.save(path, samples.kspace())
        return options

    return write


def masked(path):
    np.savez(path, kspace=samples.kspace(), mask=np.zeros((10, 12)))
    return {}


def trajectory(k=None, **more):
    def write(path):
        g = np.random.default_rng(1)
        known = radial_2d(9, 24)[..., 1:] if k is None else np.full((9, 24, 2), k)
        np.savez(path, kspace=(g.normal(size=(2, 9, 24)) + 0j).astype(np.complex64), trajectory=known, **more)
        return {}

    return write


def views(**options):
    """A plain stack, whose geometry comes from options."""

    def write(path):
        np.save(path, samples.line_integrals())
        return RANGE | options

    return write


def side_file(option, values):
    def write(path):
        np.save(path, samples.line_integrals())
        np.save(path.with_name("side.npy"), values)
        return {option: "side.npy"}

    return write


VECTORS = np.tile([0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, INF], (samples.N_VIEWS, 1))

FILES = {
    **{f"scan centre {v}.h5": grid(center_mm=(0, 0, v)) for v in (INF, NAN, 1e20)},
    **{f"scan voxel {v}.h5": grid(spacing_mm=(1, v, 1)) for v in (1e-18, 1e300, 0, -1, NAN)},
    **{f"scan shape {v}.h5": grid(shape=(3, v, 5)) for v in (10**12, 0, -1, NAN, 1e300)},
    "scan grid elsewhere.h5": grid(center_mm=(5000, 0, 0)),
    "scan grid around the source.h5": grid(spacing_mm=(50, 50, 50)),
    "scan grid no numbers.h5": grid(spacing_mm="small"),
    **{f"scan vectors {v}.h5": vector((2, 4), v) for v in (NAN, INF, 1e19)},
    "scan source inside.h5": vector((2, slice(0, 3)), [0.5, 0.5, 0]),
    "scan no pixel.h5": vector((2, slice(6, 9)), 0),
    **{f"scan detector {v}.h5": spoiled(cone_scan(), {"geometry": {"detector_shape": (4, v)}}) for v in (NAN, 0, 10**15)},
    "scan views nan.h5": spoiled(cone_scan(), arrays={"measurements": ((0, 0, 0), NAN)}),
    "scan mask of zeros.h5": spoiled(cartesian(), arrays={"mask": (slice(None), False)}),
    "scan coils nan.h5": spoiled(cartesian(), {"geometry": {"n_coils": NAN}}),
    **{f"scan k {v}.h5": spoiled(radial(), arrays={"trajectory": ((1, 2, 2), v)}) for v in (NAN, INF, 1e300)},
    "scan weights inf.h5": spoiled(radial(), arrays={"weights": ((1, 2), INF)}),
    **{f"pixel {v}.npz": npz(pixel_mm=v) for v in (INF, NAN, 1e-18, 1e300, -1.0, 0.0)},
    **{f"axis {v}.npz": npz(axis_px=v) for v in (1e19, -1e300, INF, NAN, 90_000.0)},
    **{f"source {v}.npz": npz(source_origin_mm=v, source_detector_mm=90.0) for v in (-5.0, 0.0, INF, NAN, 1e-18, 91.0)},
    "source inside.npz": npz(source_origin_mm=3.0, source_detector_mm=5.0),
    **{f"detector {v}.npz": npz(source_origin_mm=60.0, source_detector_mm=v) for v in (-5.0, 0.0, INF, NAN, 1e20)},
    "vectors inf.npz": npz(vectors=VECTORS),
    **{f"pixel {v}.nxs": nxtomo(pixel=v) for v in (INF, NAN, 1e-18, -1.0)},
    **{f"angle {v}.nxs": nxtomo(angle=v) for v in (INF, NAN, 1e300)},
    **{f"num_angles {v}.h5": rotation(num_angles=v) for v in (4e8, -1.0, NAN, INF)},
    **{f"rotation step {v}.h5": rotation(rotation_step=v) for v in (NAN, INF, 1e300)},
    "rotation start inf.h5": rotation(rotation_start=INF),
    **{f"fei pixel {v}.mrc": fei(v) for v in (INF, NAN, 1e-25, -1.0)},
    **{f"walnut {v}": walnut((5, 4), v) for v in (NAN, INF, 1e19)},
    "walnut source inside": walnut((5, slice(0, 3)), [1, 2, 3]),
    **{f"spacing {v}.npy": kspace(spacing_mm=v) for v in ("inf", "nan", "1e-18", "1,1,-2", "1e300", "0")},
    "mask of zeros.npz": masked,
    **{f"k {v}.npz": trajectory(v) for v in (NAN, INF, 1e300, 12.0)},
    **{f"dcf {v}.npz": trajectory(dcf=np.full((9, 24), v)) for v in (NAN, INF, -1.0, 0.0)},
    "dcf of another.npz": trajectory(dcf=np.ones((2, 9, 24))),
    **{f"option axis {v}.npy": views(axis_px=v) for v in (1e19, NAN, INF, -1e300, 90_000.0)},
    **{f"option pixel {v}.npy": views(pixel_mm=v) for v in (1e-18, 0, -1, NAN, INF, 1e300)},
    **{f"option source {v}.npy": views(source_origin_mm=v, source_detector_mm=100) for v in (-1, 0, NAN, INF, 101, 1e-18)},
    "option source inside.npy": views(source_origin_mm=3, source_detector_mm=5),
    **{f"option detector {v}.npy": views(source_origin_mm=50, source_detector_mm=v) for v in (-1, 0, NAN, INF, 1e20)},
    **{f"option angles {i}.npy": views(angles=v) for i, v in enumerate(("0:1e300", "nan:3", "1e999:2", "-1e308:1e308", "."))},
    **{f"option air {v}.npy": views(values="counts", air=v) for v in (NAN, INF, 0, -1, 1e-300)},
    **{f"option flats {v}.npy": views(flats=v) for v in ("nan", "inf", "0")},
    **{f"option view_step {v}.npy": views(view_step=v) for v in (0, -1, 1e30, NAN)},
    **{f"option max_size {v}.npy": views(max_size=v) for v in (0, -1, 10**30, NAN)},
    **{f"angles {v}.npy": side_file("angles", np.full(samples.N_VIEWS, v)) for v in (NAN, INF, 1e300)},
    "vectors inf.npy": side_file("vectors", VECTORS),
    "vectors nan.npy": side_file("vectors", np.full((samples.N_VIEWS, 12), NAN)),
}  # fmt: skip


def write(name, folder):
    """The file of this name, and the options to read it with."""
    path = folder / name.replace(" ", "-")
    return path, FILES[name](path)
