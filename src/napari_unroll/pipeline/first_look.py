"""Something to look at within a second or two: a rough volume whose work does not grow with the scan.

CT: filtered back-projection of few views on binned pixels and a coarse grid; of still fewer before, where that takes long.
MRI: the root sum of squares of coil images from the middle of k-space. Images: some of the measured pixels. The result's grid
is filled slab by slab by linear interpolation, from its middle outwards. Knows no methods and no operators of the whole scan.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from napari_unroll.errors import UnrollError
from napari_unroll.events import Box, Event, QuickLook
from napari_unroll.interrupt import stepwise
from napari_unroll.physics import fdk
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.pool import default_threads
from napari_unroll.pipeline.edits import ct_geometry
from napari_unroll.pipeline.geometry_check import MOST, Sizes, reduced
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
COARSEST = Sizes(views=24, columns=40, voxels=40)
"""What a scan is reduced to for the very first picture, where the next one takes long."""
SOON = 4_000_000
"""Voxels times views of filtered back-projections that need nothing before them: under half a second on one core."""
MAX_EDGE = 128
MAX_COIL_VOXELS = 1_500_000
"""Of all coarse coil images together."""
SLAB_VOXELS = 2_000_000
"""Of the result that are interpolated at once."""


@dataclass(frozen=True)
class Coarse:
    """Values (z, y, x), of which number k along an axis lies at ``first + step · k``, in voxels of the result."""

    values: np.ndarray
    first: Triple
    step: Triple

    def planes(self, shape: Shape, z: slice) -> np.ndarray:
        """The planes ``z`` of the result (z, y, x) by linear interpolation; beyond the ends the last value is repeated."""
        out = self.values
        wanted = (np.arange(z.start, z.stop), np.arange(shape[1]), np.arange(shape[2]))
        for axis, (at, first, step) in enumerate(zip(wanted, self.first, self.step, strict=True)):
            out = _interpolated(out, axis, (at - first) / step)
        return out


def first_look(scan: Scan, box: Box) -> Generator[Event, None, None]:
    """A rough picture of the voxels ``box`` as QuickLook events, in voxels of the box; none where the scan allows none."""
    shape: Shape = tuple(b.stop - b.start for b in box)
    for sizes in _sizes(scan, shape):
        try:
            coarse = yield from stepwise(partial(rough, scan, box, sizes), "a first look")
        except UnrollError:
            return
        for z in _from_the_middle(shape):
            yield QuickLook((z, slice(0, shape[1]), slice(0, shape[2])), coarse.planes(shape, z))


def _sizes(scan: Scan, shape: Shape) -> Iterator[Sizes]:
    """What the scan is reduced to, one picture after the other."""
    views, voxels = len(scan.measurements), min(max(shape), MOST.voxels)
    if scan.modality == "ct" and min(views, MOST.views) * voxels**3 > SOON:
        yield COARSEST
    yield MOST


def rough(scan: Scan, box: Box, sizes: Sizes = MOST) -> Coarse:
    """The rough volume of the voxels ``box``, from an X-ray scan reduced to ``sizes``; raises ScanError where there is none."""
    if isinstance(scan.geometry, BlurredSampling):
        return _of_image(scan, scan.geometry, box)
    if isinstance(scan.geometry, CartesianSampling):
        return _of_images(_middle_of_kspace(scan), scan.grid.shape, box)
    if isinstance(scan.geometry, NonCartesianSampling):
        return _of_images(_middle_of_trajectory(scan, scan.geometry), scan.grid.shape, box)
    _, small, _ = reduced(scan, scan.grid.restrict(box), sizes)
    values = fdk.reconstruct(small.measurements, ct_geometry(small), small.grid, "hann", default_threads())
    step: Triple = tuple((b.stop - b.start) / n for b, n in zip(box, values.shape, strict=True))
    return Coarse(values, tuple((s - 1) / 2 for s in step), step)  # type: ignore[arg-type]


def _of_image(scan: Scan, sampling: BlurredSampling, box: Box) -> Coarse:
    """Measured pixels, of large images not all, where ``BlurredSampling`` says that they lie."""
    strides = [max(1, n // MAX_EDGE) for n in scan.measurements.shape]
    values = np.asarray(scan.measurements[tuple(slice(None, None, s) for s in strides)], np.float32)
    first = tuple((f - 1) // 2 - b.start for f, b in zip(sampling.factor, box, strict=True))
    step = tuple(f * s for f, s in zip(sampling.factor, strides, strict=True))
    return Coarse(values, first, step)


def _of_images(images: np.ndarray, shape: Shape, box: Box) -> Coarse:
    """Coil images (coil, z, y, x) of the whole field of view on fewer voxels as one magnitude; voxel n // 2 is the middle."""
    coarse = images.shape[1:]
    scale = math.sqrt(math.prod(coarse) / math.prod(shape))
    values = scale * np.sqrt((np.abs(images) ** 2).sum(0))
    step = tuple(n / c for n, c in zip(shape, coarse, strict=True))
    first = tuple(n // 2 - c // 2 * s - b.start for n, c, s, b in zip(shape, coarse, step, box, strict=True))
    return Coarse(values.astype(np.float32), first, step)


def _few(shape: Shape, n_coils: int) -> Shape:
    """Voxels of coil images that are soon computed."""
    edge = 16
    while edge < MAX_EDGE and n_coils * math.prod(min(n, edge + 8) for n in shape) <= MAX_COIL_VOXELS:
        edge += 8
    return tuple(min(n, edge) for n in shape)  # type: ignore[return-value]


def _middle_of_kspace(scan: Scan) -> np.ndarray:
    """Coil images (coil, z, y, x) of the middle of Cartesian k-space."""
    shape = scan.grid.shape
    few = _few(shape, len(scan.measurements))
    middle = tuple(slice(n // 2 - c // 2, n // 2 - c // 2 + c) for n, c in zip(shape, few, strict=True))
    kspace = np.fft.ifftshift(scan.measurements[(slice(None), *middle)], axes=(1, 2, 3))
    return np.fft.fftshift(np.fft.ifftn(kspace, axes=(1, 2, 3), norm="ortho"), axes=(1, 2, 3))


def _middle_of_trajectory(scan: Scan, sampling: NonCartesianSampling) -> np.ndarray:
    """Coil images (coil, z, y, x), gridded from the samples of a trajectory that lie in the middle of k-space."""
    few = _few(sampling.shape, sampling.n_coils)
    scaled = sampling.trajectory * (np.array(sampling.shape) / np.array(few))
    near = (np.abs(scaled) < 0.5).all(-1)
    assert sampling.weights is not None
    inner = NonCartesianSampling(
        trajectory=scaled[near][None], shape=few, n_coils=sampling.n_coils, weights=sampling.weights[near][None]
    )
    physics = NonCartesianMRI(inner, np.ones((sampling.n_coils, *few), np.complex64))
    y = torch.from_numpy(np.asarray(scan.measurements[:, near], np.complex64))[None, :, None]
    return np.asarray(physics.coil_images(physics.compensate(y))[0].numpy())


def _interpolated(values: np.ndarray, axis: int, at: np.ndarray) -> np.ndarray:
    """Values at the positions ``at`` along an axis, float32."""
    at = at.clip(0, values.shape[axis] - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    below = values.take(low, axis)
    return below if not share.any() else below + share * (values.take(high, axis) - below)


def _from_the_middle(shape: Shape) -> Iterator[slice]:
    """Slabs of a volume along z, those in its middle first."""
    thick = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    starts = sorted(range(0, shape[0], thick), key=lambda z: abs(z + thick / 2 - shape[0] / 2))
    return (slice(z, min(z + thick, shape[0])) for z in starts)
