"""Volumes as TIFF: an ImageJ hyperstack with spacing in mm, or OME-TIFF where the name or the size asks for it.

The grid and the record travel as JSON in ImageJ's Info text, or in OME's Description.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_memory, quiet
from napari_unroll.io.hdf5 import MM
from napari_unroll.io.pictures import check_directories, load_tiff
from napari_unroll.io.volume import CHANNELS, RECORD_KEY, Volume, from_channels, to_channels
from napari_unroll.scan.geometry import VolumeGrid

IMAGEJ_TYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 2**32 - 2**25
"""ImageJ reads classic TIFF only, whose offsets end at 4 GiB."""


def write(path: Path, volume: Volume, *, ome: bool) -> None:
    """Write one hyperstack; volumes too large for ImageJ become OME-TIFF (BigTIFF) whatever the name."""
    is_complex = volume.values.dtype.kind == "c"
    data = np.swapaxes(to_channels(volume.values), 0, 1) if is_complex else volume.values
    note = json.dumps({RECORD_KEY: {"grid": asdict(volume.grid), "record": volume.record}})
    with quiet("tifffile"):
        if ome or data.nbytes > IMAGEJ_BYTES:
            _write_ome(path, data, volume.grid, note, is_complex)
        else:
            _write_imagej(path, data, volume.grid, note, is_complex)


def _write_imagej(path: Path, data: np.ndarray, grid: VolumeGrid, note: str, is_complex: bool) -> None:
    data = data if data.dtype.name in IMAGEJ_TYPES else data.astype(np.float32)
    metadata: dict[str, Any] = {"axes": "ZCYX" if is_complex else "ZYX", "unit": "mm", "spacing": grid.spacing_mm[0]}
    metadata |= {"Labels": list(CHANNELS) * len(data)} if is_complex else {}
    resolution = (1 / grid.spacing_mm[2], 1 / grid.spacing_mm[1])
    tifffile.imwrite(path, data, imagej=True, resolution=resolution, metadata=metadata | {"Info": note})


def _write_ome(path: Path, data: np.ndarray, grid: VolumeGrid, note: str, is_complex: bool) -> None:
    metadata: dict[str, Any] = {"axes": "ZCYX" if is_complex else "ZYX", "Description": note}
    for axis, size in zip("ZYX", grid.spacing_mm, strict=True):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "mm"}
    if is_complex:
        metadata["Channel"] = {"Name": list(CHANNELS)}
    tifffile.imwrite(path, data, ome=True, bigtiff=data.nbytes > IMAGEJ_BYTES, metadata=metadata)


def is_ours(path: Path) -> bool:
    """Whether a TIFF file holds a volume written here."""
    try:
        with quiet("tifffile"), tifffile.TiffFile(path) as tiff:
            return RECORD_KEY in _note(tiff)
    except Exception:
        return False


def read(path: Path) -> Volume:
    """A volume written here, with its grid and record."""
    try:
        with quiet("tifffile"), tifffile.TiffFile(path) as tiff:
            note = json.loads(_note(tiff))[RECORD_KEY]
            check_memory(tiff.series[0].nbytes, path.name)
            data = np.asarray(tiff.series[0].asarray())
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path.name} is no TIFF volume written by napari-unroll ({error}).") from error
    grid = VolumeGrid(**{k: tuple(v) for k, v in note["grid"].items()})
    if data.size == 2 * np.prod(grid.shape):
        pairs = data.reshape(grid.shape[0], 2, *grid.shape[1:])
        return Volume(from_channels(np.swapaxes(pairs, 0, 1)), grid, note["record"])
    return Volume(data.reshape(grid.shape), grid, note["record"])


def read_other(path: Path) -> Volume:
    """A volume of another program, OME-TIFF or ImageJ's, with its voxel size. Raises FileFormatError where it has none."""
    check_directories(path)
    with quiet("tifffile"), tifffile.TiffFile(path) as tiff:
        spacing = _ome_spacing(tiff) if tiff.is_ome else _imagej_spacing(tiff)
    if spacing is None:
        raise FileFormatError(
            f"{path.name} does not say the size of its voxels with a unit of length; expected OME-TIFF, or ImageJ's with spacing."
        )
    values = load_tiff(path)
    values = values[None] if values.ndim == 2 else values
    return Volume(values, VolumeGrid(shape=values.shape, spacing_mm=spacing), {})  # type: ignore[arg-type]


def _ome_spacing(tiff: tifffile.TiffFile) -> tuple[float, ...] | None:
    """Voxel size (z, y, x) in mm; of one plane z is y."""
    image = tifffile.xml2dict(str(tiff.ome_metadata))["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    if any(int(pixels.get(f"Size{axis}", 1)) > 1 for axis in "CT"):
        raise FileFormatError("The file holds several channels or times; expected one volume. Save one of them.")
    sizes = [(pixels.get(f"PhysicalSize{a}"), str(pixels.get(f"PhysicalSize{a}Unit", "µm")).lower()) for a in "ZYX"]
    sizes = sizes if sizes[0][0] is not None or int(pixels.get("SizeZ", 1)) > 1 else [sizes[1], *sizes[1:]]
    if any(size is None or unit not in MM for size, unit in sizes):
        return None
    return tuple(float(size) * MM[unit] for size, unit in sizes)


def _imagej_spacing(tiff: tifffile.TiffFile) -> tuple[float, ...] | None:
    about = tiff.imagej_metadata or {}
    unit = str(about.get("unit", "")).replace("\\u00B5", "µ").lower()
    if unit not in MM:
        return None
    tags = tiff.pages[0].tags  # type: ignore[union-attr]
    y, x = (tags[name].value[1] / tags[name].value[0] for name in ("YResolution", "XResolution"))
    return tuple(float(s) * MM[unit] for s in (about.get("spacing", y), y, x))


def _note(tiff: tifffile.TiffFile) -> str:
    if tiff.is_ome:
        root = tifffile.xml2dict(str(tiff.ome_metadata))["OME"]
        return str(root["Image"]["Description"])
    return str((tiff.imagej_metadata or {})["Info"])
