"""X-ray transform as a deepinv LinearPhysics on the CPU, for arbitrary cone and parallel views.

The autograd bridge (backward = adjoint) is declared here once for every X-ray back end; a back end overrides
``_project`` and ``_backproject``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics

from napari_unroll.errors import ScanError
from napari_unroll.events import Box
from napari_unroll.physics import fdk, joseph
from napari_unroll.physics.autograd import Linear
from napari_unroll.physics.pool import default_threads
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid


class XRay(LinearPhysics):
    """Line integrals of a volume along the rays of ``geometry``.

    x is float32 (batch, 1, z, y, x) in 1/mm, zero outside ``grid``; y is float32 (batch, 1, view, row, column),
    dimensionless. ``reason`` says why this back end was chosen. Matched adjoint (Joseph, see ``physics.joseph``).
    """

    reason = "CPU projector (Joseph, matched adjoint)"
    dtype = torch.float32

    def __init__(self, geometry: ConeBeam | ParallelBeam, grid: VolumeGrid, n_threads: int | None = None) -> None:
        super().__init__()
        if not isinstance(geometry, (ConeBeam, ParallelBeam)):
            raise ScanError(
                f"An X-ray projector needs a cone or parallel beam geometry; got {type(geometry).__name__}."
            )
        self.geometry, self.grid = geometry, grid
        self.n_threads = n_threads or default_threads()
        self._origin = np.array(grid.origin_mm)
        self._spacing = np.array(grid.spacing_mm)

    @property
    def is_cone(self) -> bool:
        """Whether rays diverge from a source."""
        return isinstance(self.geometry, ConeBeam)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x)."""
        return (1, 1, *self.grid.shape)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, 1, view, row, column)."""
        return (1, 1, *self.geometry.measurement_shape)

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        return torch.device("cpu")

    def restrict(self, box: Box) -> XRay:
        """A Pᵀ for the patch ``box``: the same rays through a smaller grid."""
        return type(self)(self.geometry, self.grid.restrict(box), self.n_threads)

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Projections of ``x``."""
        return Linear.apply(x, self._forward_batch, self._adjoint_batch)

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Unfiltered back-projection of ``y``."""
        return Linear.apply(y, self._adjoint_batch, self._forward_batch)

    def A_dagger(self, y: torch.Tensor, window: str = "ram-lak", **kwargs: Any) -> torch.Tensor:
        """Filtered back-projection: FDK for cone beams, FBP for parallel beams (see ``physics.fdk``)."""
        volumes = [fdk.reconstruct(p.cpu().numpy(), self.geometry, self.grid, window, self.n_threads) for p in y[:, 0]]
        return torch.from_numpy(np.stack(volumes)[:, None]).to(y.device)

    def _forward_batch(self, x: torch.Tensor) -> torch.Tensor:
        self._check(x, self.x_shape, "volume (batch, 1, z, y, x)")
        return torch.stack([self._project(v[0]) for v in x.detach()])[:, None]

    def _adjoint_batch(self, y: torch.Tensor) -> torch.Tensor:
        self._check(y, self.y_shape, "projections (batch, 1, view, row, column)")
        return torch.stack([self._backproject(p[0]) for p in y.detach()])[:, None]

    def _check(self, tensor: torch.Tensor, shape: tuple[int, ...], what: str) -> None:
        if tuple(tensor.shape[1:]) != shape[1:]:
            raise ScanError(f"Expected a {what} with axes {shape[1:]} after the batch; got {tuple(tensor.shape)}.")

    def _project(self, volume: torch.Tensor) -> torch.Tensor:
        array = np.ascontiguousarray(volume.cpu().numpy(), dtype=np.float32)
        geometry = self.geometry
        projections = joseph.forward(
            array, geometry.vectors, self.is_cone, self._origin, self._spacing, geometry.detector_shape, self.n_threads
        )
        return torch.from_numpy(projections).to(volume.device)

    def _backproject(self, projections: torch.Tensor) -> torch.Tensor:
        array = np.ascontiguousarray(projections.cpu().numpy(), dtype=np.float32)
        volume = joseph.adjoint(
            array, self.geometry.vectors, self.is_cone, self._origin, self._spacing, self.grid.shape, self.n_threads
        )
        return torch.from_numpy(volume).to(projections.device)
