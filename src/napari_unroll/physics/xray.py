"""X-ray transform on the CPU, for arbitrary cone and parallel views.

Processes of one run share the views. Another back end for the same rays overrides ``_lines`` and ``_spread`` where arrays are
in the computer's memory, else ``_project``, ``_backproject`` and ``_project_and_back``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from napari_unroll.errors import ScanError
from napari_unroll.events import Box
from napari_unroll.physics import fdk, joseph
from napari_unroll.physics.pool import default_threads, in_chunks
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.grids import bin_geometry
from napari_unroll.scratch import zeros
from napari_unroll.team import gathered, summed

ONE_SIDED = 0.1
"""Mean of the unit vectors towards the source above which a cone beam's views count as one-sided."""
LEAST_PIXELS = 32
"""Along every axis of a detector that is thinned: what is lost at its ends, less than a pixel, must not count."""


class XRay(VolumePhysics):
    """Line integrals of a volume along the rays of ``geometry``.

    x is float32 (batch, 1, z, y, x) in 1/mm, zero outside ``grid``; y is float32 (batch, 1, view, row, column),
    dimensionless. ``reason`` says why this back end was chosen. Matched adjoint (Joseph, see ``physics.joseph``).
    """

    reason = "CPU projector (Joseph, matched adjoint)"
    is_periodic = False
    y_axes = "projections (batch, 1, view, row, column)"

    def __init__(
        self,
        geometry: ConeBeam | ParallelBeam,
        grid: VolumeGrid,
        n_threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(geometry, (ConeBeam, ParallelBeam)):
            raise ScanError(
                f"An X-ray projector needs a cone or parallel beam geometry; got {type(geometry).__name__}."
            )
        super().__init__(grid, device)
        self.geometry = geometry
        self.n_threads = n_threads or default_threads()
        self._origin = np.array(grid.origin_mm)
        self._spacing = np.array(grid.spacing_mm)

    @property
    def is_cone(self) -> bool:
        """Whether rays diverge from a source."""
        return isinstance(self.geometry, ConeBeam)

    @property
    def is_one_sided(self) -> bool:
        """Whether a cone beam's sources lie on one side of the volume (a short scan)."""
        if not self.is_cone:
            return False
        sources = np.asarray(self.geometry.vectors)[:, :3]
        directions = sources / np.linalg.norm(sources, axis=1, keepdims=True)
        return bool(np.linalg.norm(directions.mean(0)[:2]) > ONE_SIDED)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, view, row, column)."""
        return (1, 1, *self.geometry.measurement_shape)

    def restrict(self, box: Box) -> XRay:
        """A Pᵀ for the patch ``box``: the same rays through a smaller grid."""
        return self._like(self.geometry, self.grid.restrict(box))

    def coarsen(self, factor: int) -> XRay:
        """The same rays through ``factor`` times larger voxels."""
        nz, ny, nx = (max(1, -(-n // factor)) for n in self.grid.shape)
        return self._like(self.geometry, self.grid.resample((nz, ny, nx)))

    def thin(self, factor: int) -> XRay:
        """The rays to pixels ``factor`` times larger through the same grid; of small detectors fewer times."""
        most = max(1, min(self.geometry.detector_shape) // LEAST_PIXELS)
        return self._like(bin_geometry(self.geometry, min(factor, most)), self.grid)

    def of_views(self, views: Sequence[int]) -> XRay:
        """The rays of some ``views`` (indices) through the same grid."""
        return self._like(self.geometry.subset(list(views)), self.grid)

    def _like(self, geometry: ConeBeam | ParallelBeam, grid: VolumeGrid) -> XRay:
        """Other rays or another grid in the same place."""
        return type(self)(geometry, grid, self.n_threads, self.device)

    def A_dagger(self, y: torch.Tensor, window: str = "ram-lak", **kwargs: Any) -> torch.Tensor:
        """Filtered back-projection: FDK for cone beams, FBP for parallel beams (see ``physics.fdk``)."""
        volumes = [fdk.reconstruct(p.cpu().numpy(), self.geometry, self.grid, window, self.n_threads) for p in y[:, 0]]
        return _batch([torch.from_numpy(volume) for volume in volumes]).to(y.device)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return _batch([self._project(v[0]) for v in x.detach()])

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return _batch([self._backproject(p[0]) for p in y.detach()])

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return _batch([self._project_and_back(v[0]) for v in x.detach()])

    def _project(self, volume: torch.Tensor) -> torch.Tensor:
        array = _float32(volume)
        lines = gathered(lambda views: torch.from_numpy(self._lines(array, views)), self.geometry.n_views)
        return lines.to(volume.device)

    def _backproject(self, projections: torch.Tensor) -> torch.Tensor:
        array = _float32(projections)
        n_views = self.geometry.n_views
        spread = summed(lambda views: torch.from_numpy(self._spread(array[views], views)), n_views)
        return spread.to(projections.device)

    def _project_and_back(self, volume: torch.Tensor) -> torch.Tensor:
        """AᴴA, which never holds the projections of more than a chunk of views."""
        array = _float32(volume)

        def back(some_views: slice) -> torch.Tensor:
            out = zeros(self.grid.shape)

            def add(views: slice) -> None:
                self._spread(self._lines(array, views), views, out)

            in_chunks(add, some_views, 4 * math.prod(self.geometry.detector_shape), out.nbytes)
            return torch.from_numpy(out)

        return summed(back, self.geometry.n_views).to(volume.device)

    def _lines(self, volume: np.ndarray, views: slice) -> np.ndarray:
        """Line integrals of some ``views``."""
        vectors, shape = self.geometry.vectors[views], self.geometry.detector_shape
        return joseph.forward(volume, vectors, self.is_cone, self._origin, self._spacing, shape, self.n_threads)

    def _spread(self, projections: np.ndarray, views: slice, volume: np.ndarray | None = None) -> np.ndarray:
        """The transpose of :meth:`_lines`, added to ``volume``."""
        vectors, shape = self.geometry.vectors[views], self.grid.shape
        return joseph.adjoint(
            projections, vectors, self.is_cone, self._origin, self._spacing, shape, self.n_threads, volume
        )


def _float32(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.cpu().numpy(), dtype=np.float32)


def _batch(parts: list[torch.Tensor]) -> torch.Tensor:
    """(batch, 1, …); one part alone is not copied."""
    return (parts[0][None] if len(parts) == 1 else torch.stack(parts))[:, None]
