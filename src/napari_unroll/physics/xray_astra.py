"""X-ray transform on CUDA by the ASTRA toolbox, on torch's memory. The only file that imports ASTRA.

ASTRA 2.5 imports without a GPU, but any 3-D CUDA call then ends the process with a signal that nothing can catch:
every call here is guarded by :func:`is_usable`. Its ray-driven projector and voxel-driven back-projector are no exact pair, so
``laws.adjoint_error`` is shown to the user. Volumes are on one card, or in the computer's memory beside one or more. Not yet run
on a GPU by us; see docs/gpu.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from napari_unroll.errors import DeviceError
from napari_unroll.physics.pool import in_chunks
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scratch import zeros

MIDDLE, FEW_VIEWS = 64, 16
"""Voxels along each axis, and views, by which the scale of ASTRA's back-projection is found where volumes are large."""


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


@dataclass(frozen=True)
class Cards:
    """GPUs by their numbers, all of one kind, and how many bytes of each may be taken."""

    numbers: tuple[int, ...]
    n_bytes: int


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
        _require()
        super().__init__(geometry, grid, n_threads, device)

    @cached_property
    def _projector(self) -> Any:
        import astra

        return astra.create_projector("cuda3d", _rays(self.geometry), _volume_geometry(self.grid))

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
        with _working_on([volume.device.index]):
            astra.experimental.direct_FPBP3D(self._projector, *links, 1, mode)
        return volume, projections

    def __del__(self) -> None:
        if "_projector" in self.__dict__:
            import astra

            astra.projector3d.delete(self.__dict__["_projector"])


class XRayThroughCards(XRay):
    """The same of volumes and views in the computer's memory, which ASTRA takes through ``cards`` in parts that fit these.

    What it makes it splits into slabs of planes or of detector rows, of which each card has its share; for each it reads what
    that needs, in parts too (``CCompositeGeometryManager::splitJobs`` in src/CompositeGeometryManager.cpp of
    astra-toolbox/astra-toolbox). Its order of views is another, so that a chunk of them is copied at a time.

    Raises DeviceError where ASTRA or a GPU is missing.
    """

    reason = "ASTRA on CUDA, volumes in the computer's memory (unmatched adjoint)"

    def __init__(
        self, geometry: ConeBeam | ParallelBeam, grid: VolumeGrid, cards: Cards, n_threads: int | None = None
    ) -> None:
        _require()
        super().__init__(geometry, grid, n_threads)
        self.cards = cards

    def _like(self, geometry: ConeBeam | ParallelBeam, grid: VolumeGrid) -> XRayThroughCards:
        return type(self)(geometry, grid, self.cards, self.n_threads)

    @cached_property
    def _scale(self) -> float:
        """As :attr:`AstraXRay._scale`, by some views of the middle of the volume; one where they do not see it."""
        middle = [slice((n - m) // 2, (n - m) // 2 + m) for n in self.grid.shape for m in [min(n, MIDDLE)]]
        n_views = self.geometry.n_views
        views = range(0, n_views, -(-n_views // FEW_VIEWS))
        few = self._like(self.geometry.subset(list(views)), self.grid.restrict((middle[0], middle[1], middle[2])))
        every = slice(0, len(views))
        lines = few._lines(np.ones(few.grid.shape, np.float32), every)
        back = np.zeros(few.grid.shape, np.float32)
        few._call("accumulate_BP", back, np.ascontiguousarray(lines.transpose(1, 0, 2)), every)
        seen = float(back.sum(dtype=np.float64))
        return float(np.square(lines, dtype=np.float64).sum()) / seen if seen > 0 else 1.0

    def _lines(self, volume: np.ndarray, views: slice) -> np.ndarray:
        n_rows, n_cols = self.geometry.detector_shape
        out = np.empty((views.stop - views.start, n_rows, n_cols), np.float32)

        def project(some: slice) -> None:
            rows = np.zeros((n_rows, some.stop - some.start, n_cols), np.float32)
            self._call("accumulate_FP", volume, rows, some)
            out[some.start - views.start : some.stop - views.start] = rows.transpose(1, 0, 2)

        in_chunks(project, views, out[0].nbytes, volume.nbytes)
        return out

    def _spread(self, projections: np.ndarray, views: slice, volume: np.ndarray | None = None) -> np.ndarray:
        out = zeros(self.grid.shape) if volume is None else volume

        def add(some: slice) -> None:
            chunk = projections[some.start - views.start : some.stop - views.start]
            self._call("accumulate_BP", out, np.multiply(chunk.transpose(1, 0, 2), self._scale, order="C"), some)

        in_chunks(add, views, projections[0].nbytes, out.nbytes)
        return out

    def _call(self, what: str, volume: np.ndarray, rows: np.ndarray, views: slice) -> None:
        """``what`` of ``astra.experimental``, between a volume and some views (row, view, column); it adds to one of both."""
        import astra
        import astra.experimental

        grid, rays = _volume_geometry(self.grid), _rays(self.geometry, views)
        projector = astra.create_projector("cuda3d", rays, grid)
        linked = [astra.data3d.link("-vol", grid, volume), astra.data3d.link("-sino", rays, rows)]
        try:
            with _working_on(self.cards.numbers, self.cards.n_bytes):
                getattr(astra.experimental, what)(projector, *linked)
        finally:
            astra.data3d.delete(linked)
            astra.projector3d.delete(projector)


def _require() -> None:
    if not is_usable():
        raise DeviceError("ASTRA needs a CUDA device and the package astra-toolbox; choose the back end 'cpu'.")


@contextmanager
def _working_on(cards: Sequence[int], n_bytes: int = 0) -> Iterator[None]:
    """ASTRA takes these cards meanwhile, ``n_bytes`` of each or what is free; that choice is one for the whole process."""
    import astra

    with torch.cuda.device(cards[0]):
        astra.set_gpu_index(list(cards), memory=n_bytes)
        yield


def _rays(geometry: ConeBeam | ParallelBeam, views: slice = slice(None)) -> Any:
    """ASTRA's geometry of some views."""
    import astra

    kind = "cone_vec" if isinstance(geometry, ConeBeam) else "parallel3d_vec"
    return astra.create_proj_geom(kind, *geometry.detector_shape, np.array(geometry.vectors[views]))


def _volume_geometry(grid: VolumeGrid) -> Any:
    """ASTRA's volume: sizes y, x, z and the window's edges in mm."""
    import astra

    (nz, ny, nx), size, centre = grid.shape, grid.size_mm, grid.center_mm
    (z0, z1), (y0, y1), (x0, x1) = ((c - 0.5 * e, c + 0.5 * e) for c, e in zip(centre, size, strict=True))
    return astra.create_vol_geom(ny, nx, nz, x0, x1, y0, y1, z0, z1)
