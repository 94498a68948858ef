"""Small generated projections and the files that hold them."""

import json
import warnings
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import scipy.io
import tifffile

from tests.io.ole import ole_bytes

N_VIEWS, ROWS, COLS, AXIS = 13, 6, 32, 17.25
ANGLES_DEG = np.linspace(0, 180, N_VIEWS)


def line_integrals(axis: float = AXIS, n_views: int = N_VIEWS, last_deg: float = 180.0) -> np.ndarray:
    """Parallel projections (view, row, column) of four Gaussian blobs turning about column ``axis``."""
    rng = np.random.default_rng(3)
    angles, columns = np.deg2rad(np.linspace(0, last_deg, n_views)), np.arange(COLS)
    total = np.zeros((n_views, ROWS, COLS))
    for row in range(ROWS):
        for x, y in rng.uniform(-7, 7, (4, 2)):
            centre = axis + x * np.cos(angles) + y * np.sin(angles)
            total[:, row] += 0.3 * np.exp(-0.5 * ((columns - centre[:, None]) / 1.6) ** 2)
    return total.astype(np.float32)


def counts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (view, row, column) uint16 with a flat and a dark field that differ from pixel to pixel."""
    rng = np.random.default_rng(4)
    dark = rng.uniform(90, 110, (ROWS, COLS))
    flat = rng.uniform(40_000, 50_000, (ROWS, COLS))
    raw = (flat - dark) * np.exp(-line_integrals()) + dark
    return raw.round().astype(np.uint16), flat.round().astype(np.uint16), dark.round().astype(np.uint16)


def write_dxchange(path: Path, *, theta: bool = True, **options: object) -> Path:
    raw, flat, dark = counts()
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=raw, **options)
        file["exchange/data_white"] = np.stack([flat, flat])
        file["exchange/data_dark"] = np.stack([dark, dark])
        if theta:
            file["exchange/theta"] = ANGLES_DEG
            file["exchange/theta"].attrs["units"] = "degrees"
    return path


def write_nxtomo(path: Path) -> Path:
    raw, flat, dark = counts()
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry1/tomo_entry/instrument/detector")
        detector["data"] = np.concatenate([flat[None], dark[None], raw, np.zeros_like(raw[:1])])
        detector["image_key"] = np.r_[1, 2, np.zeros(N_VIEWS, int), 3]
        detector["x_pixel_size"] = 6.5
        detector["x_pixel_size"].attrs["units"] = "um"
        file["entry1/tomo_entry/sample/rotation_angle"] = np.r_[0, 0, ANGLES_DEG, 0]
        file["entry1/tomo_entry/definition"] = "NXtomo"
    return path


def write_mrc(path: Path, stack: np.ndarray | None = None) -> Path:
    with warnings.catch_warnings(), mrcfile.new(path) as file:
        warnings.simplefilter("ignore", RuntimeWarning)
        file.set_data(line_integrals() if stack is None else stack)
    return path


def write_angles(path: Path, angles: np.ndarray = ANGLES_DEG) -> Path:
    path.write_text("\n".join(f" {a:.3f}" for a in angles))
    return path


def write_tiff_folder(path: Path) -> Path:
    raw, flat, dark = counts()
    path.mkdir()
    for k, view in enumerate(raw):
        tifffile.imwrite(path / f"view_{k}.tif", view)
    tifffile.imwrite(path / "flat_0.tif", flat)
    tifffile.imwrite(path / "dark_0.tif", dark)
    write_angles(path / "angles.txt")
    return path


def write_fits(path: Path, values: np.ndarray) -> Path:
    from astropy.io import fits

    fits.writeto(path, values)
    return path


def write_npz(path: Path, **more: object) -> Path:
    np.savez(path, transmission=np.exp(-line_integrals()), angles_deg=ANGLES_DEG, **more)
    return path


def kspace(shape: tuple[int, ...] = (3, 4, 10, 12)) -> np.ndarray:
    """Random complex64 samples with half of the phase encodings left out."""
    rng = np.random.default_rng(5)
    full = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    full[..., ::2, :] = 0
    return full.astype(np.complex64)


def write_txrm(path: Path, views: np.ndarray | None = None, **changed: bytes | None) -> Path:
    """A Zeiss cone-beam tomography; ``changed`` streams replace those of this name, None leaves one out."""
    raw, flat, dark = counts()
    raw = (raw.astype(np.float32) - dark) if views is None else views
    n, kind = len(raw), np.int32(10 if raw.dtype.kind == "f" else 5)
    streams = {
        "ImageInfo/NoOfImages": np.int32(n).tobytes(),
        "ImageInfo/ImageHeight": np.int32(raw.shape[1]).tobytes(),
        "ImageInfo/ImageWidth": np.int32(raw.shape[2]).tobytes(),
        "ImageInfo/DataType": kind.tobytes(),
        "ImageInfo/PixelSize": np.float32(4).tobytes(),
        "ImageInfo/XrayGeometry": np.int32(1).tobytes(),
        "ImageInfo/StoRADistance": np.full(n, -20, "<f4").tobytes(),
        "ImageInfo/DtoRADistance": np.full(n, 30, "<f4").tobytes(),
        "ImageInfo/Angles": np.linspace(0, 180, n).astype("<f4").tobytes(),
        "Alignment/X-Shifts": bytes(4 * n),
        "Alignment/Y-Shifts": bytes(4 * n),
        "ReferenceData/DataType": np.int32(10).tobytes(),
        "ReferenceData/Image": (flat.astype("<f4") - dark).astype("<f4").tobytes(),
        **{f"ImageData1/Image{k + 1}": view.tobytes() for k, view in enumerate(raw)},
        **changed,
    }
    path.write_bytes(ole_bytes({name: data for name, data in streams.items() if data is not None}))
    return path


def write_xtekct(folder: Path, *, views: Path | None = None, **changed: object) -> Path:
    """A Nikon scan in a folder: settings and one TIFF per view of a white level of 60000."""
    folder.mkdir(exist_ok=True)
    settings = {
        "Name": "part", "InputSeparator": "_", "InputFolderName": "", "SrcToObject": 60.0, "SrcToDetector": 120.0,
        "DetectorPixelsX": COLS, "DetectorPixelsY": ROWS, "DetectorPixelSizeX": 0.2, "DetectorPixelSizeY": 0.2,
        "Projections": N_VIEWS, "InitialAngle": 30.0, "AngularStep": 15.0, "WhiteLevel": 60000, "ObjectOffsetX": 0.0,
        **changed,
    }  # fmt: skip
    lines = [f"{key}={value}" for key, value in settings.items() if value is not None]
    (folder / "part.xtekct").write_text("\n".join(["[XTekCT]", *lines, "[CTPro]", "Filter_Material=None", ""]))
    for k, view in enumerate(60000 * np.exp(-line_integrals())):
        tifffile.imwrite((views or folder) / f"part_{k + 1:04d}.tif", view.round().astype(np.uint16))
    return folder / "part.xtekct"


def write_cil(path: Path, data: np.ndarray | None = None, labels: tuple[str, ...] = (), **changed: object) -> Path:
    """CIL's layout. ``changed``: datasets under config, attributes of the data after a dot, of the angles after an @."""
    config = {
        "source/position": [0, -60, 0], "detector/position": [0, 40, 0], "detector/direction_x": [1, 0, 0],
        "detector/direction_y": [0, 0, 1], "rotation_axis/position": [0, 0, 0], "rotation_axis/direction": [0, 0, 1],
        "angles": ANGLES_DEG,
    }  # fmt: skip
    attributes = {
        "data_type": "AcquisitionData", "geometry": "cone", "dimension": "3D", "num_channels": 1, "num_pixels_h": COLS,
        "pixel_size_h": 0.2, "panel_origin": "bottom-left", "num_pixels_v": ROWS, "pixel_size_v": 0.4,
    }  # fmt: skip
    data = np.exp(-line_integrals()) if data is None else data
    labels = labels or ("angle", "vertical", "horizontal")
    attributes |= {f"dim{k}": label for k, label in enumerate(labels)}
    attributes |= {name[1:]: value for name, value in changed.items() if name.startswith(".")}
    config |= {name: value for name, value in changed.items() if name[0] not in ".@"}
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = np.bytes_("NEXUSDataWriter.py")
        file["entry1/tomo_entry/data/data"] = data
        for name, value in attributes.items():
            if value is not None:
                file["entry1/tomo_entry/data/data"].attrs[name] = value
        for name, value in config.items():
            if value is not None:
                file[f"entry1/tomo_entry/config/{name}"] = np.asarray(value, np.float32)
        if config["angles"] is not None:
            about = {"@angle_unit": "degree", "@initial_angle": 0.0, **changed}
            for name in ("angle_unit", "initial_angle"):
                file["entry1/tomo_entry/config/angles"].attrs[name] = about[f"@{name}"]
    return path


MATLAB_PARAMETERS = {
    "geometryType": "Cone", "distanceSourceOrigin": 410.66, "distanceSourceDetector": 553.74, "distanceUnit": "mm",
    "pixelSizePost": 0.2, "angles": ANGLES_DEG,
}  # fmt: skip


def write_mat(path: Path, **changed: object) -> Path:
    """The central row as a fan beam, in the struct of the Helsinki data; None leaves a parameter out."""
    parameters = {name: value for name, value in (MATLAB_PARAMETERS | changed).items() if value is not None}
    struct = {"type": "2d", "sinogram": line_integrals()[:, 0].astype(np.float64), "parameters": parameters}
    scipy.io.savemat(path, {"CtDataFull": struct}, do_compression=True)
    return path


def write_hspy(path: Path, *, etspy: bool = True, tilts: np.ndarray | None = None, **axis: object) -> Path:
    """A HyperSpy stack whose first axis is one of degrees; ``tilts`` of the stage, metadata as ETSpy leaves them."""
    stack = line_integrals().swapaxes(1, 2) if etspy else line_integrals()
    first = {"name": "Projections", "units": "degrees", "offset": 0.0, "scale": 15.0, "size": N_VIEWS} | axis
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/__unnamed__")
        group.create_dataset("data", data=stack, compression="gzip")
        others = [{"name": name, "units": "nm", "offset": 0.0, "scale": 2.5} for name in "yx"]
        for k, about in enumerate([first, *others]):
            group.create_group(f"axis-{k}").attrs.update({key: v for key, v in about.items() if v is not None})
        if etspy:
            group.create_group("metadata/Tomography").attrs["tiltaxis"] = -2.5
        if tilts is not None:
            group["metadata/Acquisition_instrument/TEM/Stage/tilt_alpha"] = tilts
    return path


def write_ncem(path: Path, along: int = 0, units: str = "[deg]") -> Path:
    """An EMD file of Berkeley's layout with the tilts along axis ``along``."""
    names = [("y", "[n_m]"), ("x", "[n_m]")]
    names.insert(along, ("tilt", units))
    stack = np.moveaxis(line_integrals(), 0, along)
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        group = file.create_group("data/series")
        group.attrs["emd_group_type"] = 1
        group["data"] = stack
        for k, (name, unit) in enumerate(names):
            angles = np.deg2rad(ANGLES_DEG) if "rad" in unit else ANGLES_DEG
            dim = group.create_dataset(
                f"dim{k + 1}", data=angles if name == "tilt" else 2.5 * np.arange(stack.shape[k])
            )
            dim.attrs["name"], dim.attrs["units"] = np.bytes_(name), np.bytes_(unit)
    return path


def write_velox(path: Path, *, tilted: bool = True) -> Path:
    """An EMD file of Velox: pictures (y, x, frame) and one column of JSON per frame."""
    with h5py.File(path, "w") as file:
        file["Data/Image/0a1b/Data"] = np.moveaxis((line_integrals() * 10_000).astype(np.uint16), 0, 2)
        columns = np.zeros((500, N_VIEWS), np.uint8)
        for k, angle in enumerate(np.deg2rad(ANGLES_DEG)):
            stage = {"AlphaTilt": str(angle)} if tilted else {}
            text = json.dumps({"Stage": stage, "BinaryResult": {"PixelSize": {"width": "2.5e-9"}, "PixelUnitX": "m"}})
            columns[: len(text), k] = np.frombuffer(text.encode(), np.uint8)
        file["Data/Image/0a1b/Metadata"] = columns
    return path


def write_skyscan(folder: Path, **changed: object) -> Path:
    """A SkyScan scan in a folder: settings and one corrected TIFF per view with air at 58000, and one that is no view."""
    folder.mkdir(exist_ok=True)
    settings = {
        "Filename Prefix": "bone~00", "Number Of Files": N_VIEWS, "Number Of Rows": ROWS, "Number Of Columns": COLS,
        "Object to Source (mm)": 24.755, "Camera to Source (mm)": 286.0, "Image Pixel Size (um)": 7.0, "Depth (bits)": 16,
        "Rotation Step (deg)": 15.0, "Use 360 Rotation": "NO", "Flat Field Correction": "ON", "Rotation Direction": "CC",
        **changed,
    }  # fmt: skip
    lines = [f"{key}={value}" for key, value in settings.items() if value is not None]
    system = ["[System]", "Scanner=SkyScan1275", "Camera Pixel Size (um)=75.0", "[Acquisition]"]
    (folder / "bone~.log").write_text("\r\n".join([*system, *lines, "[Reconstruction]", "Postalignment=-1.00", ""]))
    for k, view in enumerate(58000 * np.exp(-line_integrals())):
        tifffile.imwrite(folder / f"bone~00{k:08d}.tif", view.round().astype(np.uint16))
    tifffile.imwrite(folder / "bone~00_spr.tif", np.zeros((3, 3), np.uint16))
    return folder / "bone~.log"


def write_raw(path: Path, **changed: object) -> Path:
    """Big-endian numbers behind 7 bytes, and their description; a ``path`` with any suffix but .raw is the description's."""
    about = {
        "file": f"{path.stem}.raw", "shape": [N_VIEWS, ROWS, COLS], "dtype": "float32", "byte_order": "big",
        "offset_bytes": 7, "angles": ANGLES_DEG.tolist(), "pixel_mm": 0.5, "values": "line-integrals", **changed,
    }  # fmt: skip
    about = {name: value for name, value in about.items() if value is not None}
    path.with_suffix(".raw").write_bytes(bytes(7) + line_integrals().astype(">f4").tobytes())
    lines = (f"{name}: {json.dumps(value)}" for name, value in about.items())
    path.write_text(json.dumps(about) if path.suffix == ".json" else "\n".join(lines))
    return path


def write_mat_73(path: Path, **changed: object) -> Path:
    """The same struct as MATLAB 7.3 keeps it: HDF5 behind 512 bytes of header, axes in reverse, text as numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["CtDataFull/sinogram"] = line_integrals()[:, 0].T
        for name, value in (MATLAB_PARAMETERS | changed).items():
            stored = (
                np.array([[ord(c)] for c in value], np.uint16) if isinstance(value, str) else np.atleast_2d(value).T
            )
            file[f"CtDataFull/parameters/{name}"] = stored
            file[f"CtDataFull/parameters/{name}"].attrs["MATLAB_class"] = np.bytes_(
                "char" if isinstance(value, str) else "double"
            )
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))
    return path
