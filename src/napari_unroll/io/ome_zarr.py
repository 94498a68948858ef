"""Volumes as OME-Zarr: a multiscale image with physical scale in mm, OME-NGFF 0.5 in Zarr 3; 0.4 in Zarr 2 is read, too.

Source: https://ngff.openmicroscopy.org/0.5/ and 0.4. Chunks are what one writer owns, so that parallel writers of patches
never share one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_unroll.errors import FileFormatError, UnrollError
from napari_unroll.io.guards import check_folder, check_memory
from napari_unroll.io.volume import CHANNELS, RECORD_KEY, Volume, from_channels, to_channels
from napari_unroll.scan.geometry import VolumeGrid

MM = {
    "millimeter": 1.0, "meter": 1e3, "centimeter": 10.0, "micrometer": 1e-3, "nanometer": 1e-6, "angstrom": 1e-7, "picometer": 1e-9,
}  # fmt: skip
"""Units of length of the standard, in mm."""
NAME = "reconstruction"
"""Of our images: magnitude and phase of theirs are one complex volume."""
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
    return {"name": NAME, "axes": axes, "datasets": levels}


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
    """A level (z, y, x) on disk, of which only what is looked at is read, each time anew; ``at`` along the axes before those."""

    def __init__(self, array: Any, at: tuple[int, ...]) -> None:
        self._array, self._at = array, at
        self.shape: tuple[int, ...] = array.shape[-3:]
        self.dtype, self.ndim, self.size = array.dtype, 3, math.prod(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        return np.asarray(self._array[(*self._at, *key)])

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
    with _opened(path) as (group, image):
        arrays = [group[level["path"]] for level in image.datasets]
        shape = image.check(path, arrays[0].shape)
        before = (0,) * (arrays[0].ndim - 3)
        channels = {(c,): name for c, name in enumerate(CHANNELS)} if image.is_complex else {before: ""}
        levels = {name: [StoredLevel(array, at) for array in arrays] for at, name in channels.items()}
        return StoredVolume(levels, image.grid(shape), image.record)


def holds_volume(path: Path) -> bool:
    """Whether a store of ours has its finest level: a run that still goes on has none there yet."""
    return (path / "0").exists()


def size_of(path: Path) -> tuple[tuple[int, ...], int]:
    """Shape of the finest level and bytes of a number."""
    with _opened(path) as (group, image):
        array = group[image.datasets[0]["path"]]
        return array.shape, array.dtype.itemsize


@dataclass(frozen=True)
class Multiscale:
    """What the metadata of an image say, of version 0.4 or 0.5: its axes, levels and record."""

    axes: list[dict[str, Any]]
    datasets: list[dict[str, Any]]
    around: list[dict[str, Any]]
    record: dict[str, Any]
    is_complex: bool

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Multiscale:
        """From the attributes of a group."""
        first = dict(attributes.get("ome", attributes))["multiscales"][0]
        record = dict(attributes.get(RECORD_KEY, {})).get("record", {})
        is_complex = first.get("name") == NAME and len(first["axes"]) == 4
        return cls(first["axes"], first["datasets"], first.get("coordinateTransformations", []), record, is_complex)

    def volume(self, path: Path, values: np.ndarray) -> np.ndarray:
        """The volume (z, y, x) of an array of any axes; our magnitude and phase (2, z, y, x) are one complex volume."""
        shape = self.check(path, values.shape)
        return from_channels(values) if self.is_complex else values.reshape(shape)

    def check(self, path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (z, y, x) of an array of any axes.

        Raises FileFormatError for several channels or times, of which none can be chosen.
        """
        kinds = [axis.get("type", "space") for axis in self.axes]
        if len(shape) != len(kinds) or kinds.count("space") not in (2, 3):
            raise FileFormatError(
                f"{path.name} has {len(shape)} axes, of which {kinds.count('space')} are of space; expected z, y, x."
            )
        extra = {str(a["name"]): n for a, kind, n in zip(self.axes, kinds, shape, strict=True) if kind != "space"}
        if any(n > 1 for n in extra.values()) and not self.is_complex:
            held = ", ".join(f"{n} along {name}" for name, n in extra.items())
            raise FileFormatError(f"{path.name} holds several volumes ({held}); expected one. Save one of them.")
        space = tuple(n for n, kind in zip(shape, kinds, strict=True) if kind == "space")
        return space if len(space) == 3 else (1, *space)

    def grid(self, shape: tuple[int, ...]) -> VolumeGrid:
        """The grid in mm of the finest level (z, y, x); lengths without a unit are taken as mm."""
        space = [k for k, axis in enumerate(self.axes) if axis.get("type", "space") == "space"]
        mm = [MM.get(str(self.axes[k].get("unit", "millimeter")), 0.0) for k in space]
        spacing, start = np.ones(len(self.axes)), np.zeros(len(self.axes))
        told = False
        for transform in [*self.datasets[0]["coordinateTransformations"], *self.around]:
            if transform["type"] == "scale":
                scale = np.asarray(transform["scale"], float)
                spacing, start = spacing * scale, start * scale
            elif transform["type"] == "translation":
                start, told = start + np.asarray(transform["translation"], float), True
        steps = [float(spacing[k]) * u for k, u in zip(space, mm, strict=True)]
        firsts = [float(start[k]) * u for k, u in zip(space, mm, strict=True)]
        if len(space) == 2:
            steps, firsts = [steps[0], *steps], [0.0, *firsts]
        if not told:
            firsts = [-0.5 * (n - 1) * s for n, s in zip(shape, steps, strict=True)]
        center = tuple(o + 0.5 * (n - 1) * s for o, n, s in zip(firsts, shape, steps, strict=True))
        return VolumeGrid(shape=shape, spacing_mm=tuple(steps), center_mm=center)  # type: ignore[arg-type]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Multiscale]]:
    """The group and what its metadata say; whatever goes wrong with them is one sentence."""
    check_folder(path)
    try:
        group = zarr.open_group(path, mode="r")
        yield group, Multiscale.of(group.attrs.asdict())
    except UnrollError:
        raise
    except Exception as error:
        raise FileFormatError(
            f"{path.name} is no readable OME-Zarr image of version 0.4 or 0.5 ({error}); it is incomplete or of another kind."
        ) from error


def read(path: Path) -> Volume:
    """The finest level, its grid in mm and the record (empty when another program wrote it)."""
    with _opened(path) as (group, image):
        values = image.volume(path, _load(path, group[image.datasets[0]["path"]]))
        return Volume(values, image.grid(values.shape), image.record)


def _load(path: Path, array: Any) -> np.ndarray:
    """The whole array, whose size and that of a chunk are first compared with the memory: chunks of zeros are not stored."""
    check_memory((math.prod(array.shape) + math.prod(array.chunks)) * array.dtype.itemsize, path.name)
    return np.asarray(array[...])
