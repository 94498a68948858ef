"""Reconstructing only a region: a smaller problem whose solution is the whole problem's, cut out.

CT: with the rest of the volume known (c), only u = P x is unknown and y − A Qᵀ c = A Pᵀ u + ε, so the region is a scan of
its own on a smaller grid. MRI: where the mask is the same along z, an inverse FFT along z makes
slabs independent, exactly; otherwise, and for images, the whole volume is reconstructed and cut. Knows scans and
physics, no methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_unroll.events import Box, Event, FixedPoint, IterationDone, PatchDone, QuickLook, map_events
from napari_unroll.physics.coil_physics import csm_of
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.pipeline.edits import CtGeometry, ct_geometry
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, VolumeGrid
from napari_unroll.scan.scan import Scan


def restrict_ct(scan: Scan, physics: VolumePhysics, box: Box, around: torch.Tensor | None) -> Scan:
    """The scan of the region: with ``around``, an estimate (z, y, x) of the whole, what surrounds the region is taken off.

    Without it only the grid shrinks, which is all that filtered back-projection needs. Rows that never see it are left out.
    """
    measurements, geometry, grid = scan.measurements, ct_geometry(scan), scan.grid.restrict(box)
    if around is not None:
        context = around.clone()
        context[box] = 0
        measurements = measurements - physics.A(context[None, None])[0, 0].cpu().numpy()
    rows = seeing_rows(geometry, grid)
    return replace(
        scan, measurements=np.ascontiguousarray(measurements[:, rows]), geometry=_with_rows(geometry, rows), grid=grid,
        truth=_cut(scan.truth, box),
    )  # fmt: skip


def seeing_rows(geometry: CtGeometry, grid: VolumeGrid) -> slice:
    """The detector's rows that some ray through the grid meets in some view, and one more on either side."""
    half = 0.5 * (np.array(grid.shape) + 1) * grid.spacing_mm
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    corners = (np.array(grid.center_mm) + signs * half)[:, ::-1]  # x, y, z
    first, centre, u, v = (geometry.vectors[None, :, i : i + 3] for i in (0, 3, 6, 9))
    points = np.broadcast_to(corners[:, None], (8, *first.shape[1:]))
    is_cone = isinstance(geometry, ConeBeam)
    rays, start = (points - first, first) if is_cone else (np.broadcast_to(first, points.shape), points)
    axes = np.stack(np.broadcast_arrays(rays, -u, -v), -1)
    found = np.linalg.solve(axes, np.broadcast_to(centre - start, points.shape)[..., None])[..., 0]
    n, row = geometry.detector_shape[0], found[..., 2] + 0.5 * (geometry.detector_shape[0] - 1)
    if is_cone and not (found[..., 0] > 0).all():
        return slice(0, n)
    low, high = int(max(0, np.floor(row.min()) - 1)), int(min(n, np.ceil(row.max()) + 2))
    return slice(low, high) if low < high else slice(0, n)


def _with_rows(geometry: CtGeometry, rows: slice) -> CtGeometry:
    """The geometry of some rows of the detector."""
    vectors, n = np.array(geometry.vectors), geometry.detector_shape[0]
    vectors[:, 3:6] += 0.5 * (rows.start + rows.stop - n) * vectors[:, 9:12]
    return type(geometry)(vectors=vectors, detector_shape=(rows.stop - rows.start, geometry.detector_shape[1]))


def is_undersampled(scan: Scan) -> bool:
    """Whether views are fewer than π/2 per detector column, so that filtered back-projection leaves streaks."""
    n_views, _, n_columns = scan.measurements.shape
    return bool(n_views < 0.5 * np.pi * n_columns)


def restrict_mri(scan: Scan, physics: VolumePhysics, box: Box) -> tuple[Scan, Box]:
    """The scan of the slab that holds the region, and the box to cut out of its reconstruction."""
    if not isinstance(scan.geometry, CartesianSampling):
        return scan, box
    mask = np.asarray(scan.geometry.mask)
    slab: Box = (box[0], slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    if (mask != mask[:1]).any() or box[0] == slice(0, mask.shape[0]):
        return scan, box
    csm = (scan.csm if scan.csm is not None else csm_of(physics).cpu().numpy())[(slice(None), *slab)]
    inner = replace(
        scan,
        measurements=_transform(np.fft.fft, _transform(np.fft.ifft, scan.measurements)[:, box[0]]),
        geometry=CartesianSampling(mask=mask[box[0]], n_coils=len(csm)),
        grid=scan.grid.restrict(slab),
        csm=np.ascontiguousarray(csm),
        truth=_cut(scan.truth, slab),
    )
    return inner, (slice(0, box[0].stop - box[0].start), box[1], box[2])


def _transform(fft: Any, kspace: np.ndarray) -> np.ndarray:
    """Centred orthonormal transform along z of (coil, z, y, x)."""
    moved = fft(np.fft.ifftshift(kspace, axes=1), axis=1, norm="ortho")
    return np.fft.fftshift(moved, axes=1).astype(np.complex64)


def _cut(truth: np.ndarray | None, box: Box) -> np.ndarray | None:
    return None if truth is None else truth[box]


def cropped(work: Generator[Event, None, torch.Tensor], crop: Box) -> Generator[Event, None, torch.Tensor]:
    """Events of a larger volume as events of the region that was asked for."""
    return map_events(work, lambda event: _of_region(event, crop))


def _of_region(event: Event, crop: Box) -> Event | None:
    if isinstance(event, FixedPoint):
        return event.inside(crop)
    if isinstance(event, IterationDone) and event.values is not None:
        return replace(event, values=event.values[crop])
    return _cut_patch(event, crop) if isinstance(event, PatchDone | QuickLook) else event


def _cut_patch(event: PatchDone | QuickLook, crop: Box) -> Event | None:
    """The part of the patch inside the region, if any, in the region's voxels."""
    lo = [max(b.start, c.start) for b, c in zip(event.box, crop, strict=True)]
    hi = [min(b.stop, c.stop) for b, c in zip(event.box, crop, strict=True)]
    if not all(a < b for a, b in zip(lo, hi, strict=True)):
        return None
    inside = tuple(slice(a - b.start, e - b.start) for a, e, b in zip(lo, hi, event.box, strict=True))
    box = tuple(slice(a - c.start, e - c.start) for a, e, c in zip(lo, hi, crop, strict=True))
    return replace(event, box=box, values=event.values[inside])  # type: ignore[arg-type]
