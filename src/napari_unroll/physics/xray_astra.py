"""X-ray transform on CUDA by the ASTRA toolbox, on torch's memory. The only file that imports ASTRA.

ASTRA 2.5 imports without a GPU, but any 3-D CUDA call then ends the process with a signal that nothing can catch:
every call here is guarded by :func:`is_usable`. Its ray-driven projector and voxel-driven back-projector are no exact pair, so
``laws.adjoint_error`` is shown to the user. Not yet run on a GPU by us; see docs/gpu.md.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from napari_unroll.errors import DeviceError
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid


@cache
def is_usable() -> bool:
    """Whether ASTRA is installed and sees a CUDA device; never makes a CUDA call of its own."""
    if not torch.cuda.is_available():
        return False
    try:
        import astra
    except ImportError:
        return False
    return bool(astra.use_cuda())


class AstraXRay(XRay):
    """Line integrals by ASTRA's ``cuda3d`` projector; same axes and units as :class:`XRay`.

    Raises DeviceError where ASTRA or a GPU is missing.
    """

    reason = "ASTRA on CUDA (unmatched adjoint)"

    def __init__(
        self,
        geometry: ConeBeam | ParallelBeam,
        grid: VolumeGrid,
        n_threads: int | None = None,
        device: torch.device | str = "cuda",
    ) -> None:
        if not is_usable():
            raise DeviceError("ASTRA needs a CUDA device and the package astra-toolbox; choose the back end 'cpu'.")
        super().__init__(geometry, grid, n_threads, device)

    @cached_property
    def _projector(self) -> Any:
        import astra

        rows, cols = self.geometry.detector_shape
        kind = "cone_vec" if self.is_cone else "parallel3d_vec"
        rays = astra.create_proj_geom(kind, rows, cols, np.array(self.geometry.vectors))
        return astra.create_projector("cuda3d", rays, _volume_geometry(self.grid))

    @cached_property
    def _scale(self) -> float:
        """Makes ⟨A 1, A 1⟩ = ⟨1, Aᴴ A 1⟩ whatever units ASTRA gives its back-projection."""
        ones = torch.ones(self.grid.shape, device=self.device)
        projections = self._project(ones)
        back = self._call(ones.clone(), self._astra_order(projections), "BP")[0]
        return float(projections.double().square().sum() / back.double().sum())

    def _project(self, volume: torch.Tensor) -> torch.Tensor:
        n_views, n_rows, n_cols = self.geometry.measurement_shape
        out = torch.zeros((n_rows, n_views, n_cols), device=self.device)
        return self._call(volume.to(self.device).float().contiguous(), out, "FP")[1].permute(1, 0, 2).contiguous()

    def _backproject(self, projections: torch.Tensor) -> torch.Tensor:
        volume = torch.zeros(self.grid.shape, device=self.device)
        return self._call(volume, self._astra_order(projections), "BP")[0] * self._scale

    def _project_and_back(self, volume: torch.Tensor) -> torch.Tensor:
        return self._backproject(self._project(volume))

    def _astra_order(self, projections: torch.Tensor) -> torch.Tensor:
        """(row, view, column)."""
        return projections.to(self.device).float().permute(1, 0, 2).contiguous()

    def _call(self, volume: torch.Tensor, projections: torch.Tensor, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        import astra.experimental

        torch.cuda.synchronize(self.device)
        links = [
            astra.pythonutils.GPULink(t.data_ptr(), *reversed(t.shape), t.shape[2] * 4) for t in (volume, projections)
        ]
        astra.experimental.direct_FPBP3D(self._projector, *links, 1, mode)
        return volume, projections

    def __del__(self) -> None:
        if "_projector" in self.__dict__:
            import astra

            astra.projector3d.delete(self.__dict__["_projector"])


def _volume_geometry(grid: VolumeGrid) -> Any:
    """ASTRA's volume: sizes y, x, z and the window's edges in mm."""
    import astra

    (nz, ny, nx), size, centre = grid.shape, grid.size_mm, grid.center_mm
    (z0, z1), (y0, y1), (x0, x1) = ((c - 0.5 * e, c + 0.5 * e) for c, e in zip(centre, size, strict=True))
    return astra.create_vol_geom(ny, nx, nz, x0, x1, y0, y1, z0, z1)
