"""Volumes as OME-Zarr: a multiscale image with physical scale in mm, OME-NGFF 0.5 in Zarr 3.

Source: https://ngff.openmicroscopy.org/0.5/. Chunks are what one writer owns, so that parallel writers of patches
never share one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_folder, check_memory
from napari_unroll.io.volume import CHANNELS, RECORD_KEY, Volume, from_channels, to_channels
from napari_unroll.scan.geometry import VolumeGrid

LARGE = 256
"""A volume that is still growing has coarser levels where an edge is longer."""
SMALLEST = 64
"""No further level is written when every edge is at most this long."""


def write(path: Path, volume: Volume, chunk: tuple[int, int, int] = (64, 64, 64)) -> None:
    """Write all levels, coarser ones by the mean over 2 × 2 × 2 voxels."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    values, scales = volume.values, [(1, 1, 1)]
    _write_level(group, "0", values, chunk)
    while max(values.shape) > SMALLEST:
        values, factors = halve(values)
        scales.append(tuple(a * b for a, b in zip(scales[-1], factors, strict=True)))  # type: ignore[arg-type]
        _write_level(group, str(len(scales) - 1), values, chunk)
    group.attrs.update({"ome": _metadata(volume, scales), RECORD_KEY: {"record": volume.record}})


class GrowingVolume:
    """A volume that is written box by box while it comes to be; coarser levels hold every second voxel of the finer one.

    Its arrays lie in the folder ``inside`` of the store, which is an OME-Zarr image at any moment: chunks are replaced
    whole. What is in the store already is left as it is.
    """

    def __init__(
        self, path: Path, inside: str, grid: VolumeGrid, is_complex: bool, chunk: tuple[int, int, int]
    ) -> None:
        root = zarr.open_group(path, mode="a", zarr_format=3)
        self._factors = [1]
        while max(grid.shape) // self._factors[-1] > LARGE:
            self._factors.append(2 * self._factors[-1])
        group, self._is_complex = root.require_group(inside), is_complex
        dtype = np.complex64 if is_complex else np.float32
        shapes = [tuple(-(-n // f) for n in grid.shape) for f in self._factors]
        self._levels = [_create_level(group, str(k), shape, dtype, chunk) for k, shape in enumerate(shapes)]
        if "ome" not in root.attrs:
            multiscale = _multiscale(grid, [(f, f, f) for f in self._factors], is_complex, f"{inside}/", 0.0)
            root.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}

    def put(self, box: tuple[slice, slice, slice], values: np.ndarray) -> None:
        """Write ``values`` (z, y, x) into ``box``."""
        for factor, level in zip(self._factors, self._levels, strict=True):
            first = [-(-b.start // factor) for b in box]
            part = values[tuple(slice(f * factor - b.start, None, factor) for f, b in zip(first, box, strict=True))]
            at = tuple(slice(f, f + n) for f, n in zip(first, part.shape, strict=True))
            if self._is_complex:
                level[(slice(None), *at)] = to_channels(part)
            else:
                level[at] = part


class GrownVolume:
    """What a :class:`GrowingVolume` of this ``shape`` (z, y, x) holds now, box by box, read by another process.

    Raises FileFormatError where there is none.
    """

    def __init__(self, path: Path, inside: str, shape: tuple[int, int, int]) -> None:
        try:
            self._array: Any = zarr.open_array(path / inside / "0", mode="r")
        except Exception as error:
            raise FileFormatError(f"{path.name} shows no volume yet ({error}).") from error
        if self._array.shape[-3:] != shape or self._array.ndim not in (3, 4):
            raise FileFormatError(f"{path.name} shows a volume of {self._array.shape}; expected {shape}.")
        check_memory(math.prod(self._array.chunks) * self._array.dtype.itemsize, path.name)

    def __getitem__(self, box: tuple[slice, slice, slice]) -> np.ndarray:
        if self._array.ndim == 4:
            return from_channels(np.asarray(self._array[(slice(None), *box)]))
        return np.asarray(self._array[box])


def _write_level(group: zarr.Group, name: str, values: np.ndarray, chunk: tuple[int, int, int]) -> None:
    array = _create_level(group, name, values.shape, values.dtype, chunk)
    array[...] = to_channels(values) if values.dtype.kind == "c" else values


def _create_level(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: Any, chunk: tuple[int, int, int]
) -> zarr.Array[Any]:
    """An empty array (z, y, x); a complex one has two channels before."""
    is_complex = np.dtype(dtype).kind == "c"
    sizes = tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))
    axes = ("c", "z", "y", "x") if is_complex else ("z", "y", "x")
    return group.create_array(
        name,
        shape=(len(CHANNELS), *shape) if is_complex else shape,
        dtype=np.float32 if is_complex else dtype,
        chunks=(1, *sizes) if is_complex else sizes,
        dimension_names=axes,
        overwrite=True,
    )


def halve(values: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Mean over pairs along every axis of at least two voxels (an odd last voxel is dropped), and the factors."""
    factors = tuple(2 if n > 1 else 1 for n in values.shape)
    kept = values[tuple(slice(0, n // f * f) for n, f in zip(values.shape, factors, strict=True))]
    split = [part for n, f in zip(kept.shape, factors, strict=True) for part in (n // f, f)]
    dtype = np.complex64 if values.dtype.kind == "c" else np.float32
    mean = kept.reshape(split).mean(axis=(1, 3, 5), dtype=dtype)
    return mean.astype(values.dtype, copy=False), factors


def _metadata(volume: Volume, scales: list[tuple[int, int, int]]) -> dict[str, Any]:
    is_complex = volume.values.dtype.kind == "c"
    multiscale = _multiscale(volume.grid, scales, is_complex)
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale | {"type": "mean"}]}
    if is_complex:
        ome["omero"] = {"channels": [_channel(name, volume.values) for name in CHANNELS]}
    return ome


def _multiscale(
    grid: VolumeGrid, scales: list[tuple[int, int, int]], is_complex: bool, inside: str = "", centred: float = 0.5
) -> dict[str, Any]:
    """Levels ``inside`` a folder; a coarse voxel stands for the fine ones around it (0.5) or for the first of them (0)."""
    axes = [{"name": "c", "type": "channel"}] if is_complex else []
    axes += [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    levels = [_level(f"{inside}{k}", grid, s, is_complex, centred) for k, s in enumerate(scales)]
    return {"name": "reconstruction", "axes": axes, "datasets": levels}


def _channel(name: str, values: np.ndarray) -> dict[str, Any]:
    top = float(np.abs(values).max()) or 1.0
    low, high = (0.0, top) if name == CHANNELS[0] else (-float(np.pi), float(np.pi))
    window = {"min": low, "max": high, "start": low, "end": high}
    return {"label": name, "color": "FFFFFF", "active": name == CHANNELS[0], "window": window}


def _level(
    name: str, grid: VolumeGrid, factors: tuple[int, int, int], is_complex: bool, centred: float
) -> dict[str, Any]:
    scale = [s * f for s, f in zip(grid.spacing_mm, factors, strict=True)]
    corner = [o + centred * (f - 1) * s for o, s, f in zip(grid.origin_mm, grid.spacing_mm, factors, strict=True)]
    channel = [1.0] if is_complex else []
    return {
        "path": name,
        "coordinateTransformations": [
            {"type": "scale", "scale": channel + scale},
            {"type": "translation", "translation": [0.0] * len(channel) + corner},
        ],
    }


class StoredLevel:
    """A level (z, y, x) on disk, of which only what is looked at is read, each time anew; of complex ones a channel."""

    def __init__(self, array: Any, channel: int | None) -> None:
        self._array, self._channel = array, channel
        self.shape: tuple[int, ...] = array.shape[-3:]
        self.dtype, self.ndim, self.size = array.dtype, 3, math.prod(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        return np.asarray(self._array[key if self._channel is None else (self._channel, *key)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)


@dataclass(frozen=True)
class StoredVolume:
    """A volume on disk: its levels by channel ("" of real ones), finest first, its grid and record."""

    levels: dict[str, list[StoredLevel]]
    grid: VolumeGrid
    record: dict[str, Any]


def open_lazily(path: Path) -> StoredVolume:
    """The volume without its values. Raises FileFormatError as :func:`read` does."""
    with _opened(path) as (group, attributes):
        datasets = attributes["ome"]["multiscales"][0]["datasets"]
        arrays = [group[level["path"]] for level in datasets]
        channels = dict(enumerate(CHANNELS)) if arrays[0].ndim == 4 else {None: ""}
        levels = {name: [StoredLevel(array, c) for array in arrays] for c, name in channels.items()}
        grid = _grid(arrays[0].shape[-3:], datasets[0])
        return StoredVolume(levels, grid, dict(attributes.get(RECORD_KEY, {})).get("record", {}))


def size_of(path: Path) -> tuple[tuple[int, ...], int]:
    """Shape of the finest level and bytes of a number."""
    with _opened(path) as (group, attributes):
        array = group[attributes["ome"]["multiscales"][0]["datasets"][0]["path"]]
        return array.shape, array.dtype.itemsize


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The group and its attributes; whatever goes wrong with them is one sentence."""
    check_folder(path)
    try:
        group = zarr.open_group(path, mode="r")
        yield group, group.attrs.asdict()
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(
            f"{path.name} is no readable OME-Zarr 0.5 image ({error}); it is incomplete or of another version."
        ) from error


def read(path: Path) -> Volume:
    """The finest level, its grid in mm and the record (empty when another program wrote it)."""
    with _opened(path) as (group, attributes):
        level = attributes["ome"]["multiscales"][0]["datasets"][0]
        data = _load(path, group[level["path"]])
    values = from_channels(data) if data.ndim == 4 else data
    record = attributes.get(RECORD_KEY, {})
    return Volume(values, _grid(values.shape, level), dict(record).get("record", {}))


def _load(path: Path, array: Any) -> np.ndarray:
    """The whole array, whose size and that of a chunk are first compared with the memory: chunks of zeros are not stored."""
    check_memory((math.prod(array.shape) + math.prod(array.chunks)) * array.dtype.itemsize, path.name)
    return np.asarray(array[...])


def _grid(shape: tuple[int, ...], level: Any) -> VolumeGrid:
    found = {t["type"]: t[t["type"]][-3:] for t in level["coordinateTransformations"]}
    spacing = found["scale"]
    origin = found.get("translation", [-0.5 * (n - 1) * s for n, s in zip(shape, spacing, strict=True)])
    center = tuple(o + 0.5 * (n - 1) * s for o, n, s in zip(origin, shape, spacing, strict=True))
    return VolumeGrid(shape=shape, spacing_mm=tuple(spacing), center_mm=center)  # type: ignore[arg-type]
