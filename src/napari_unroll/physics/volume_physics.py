"""The one base of all operators on volumes: what any room may ask of a physics.

A back end gives ``y_shape`` and the two maps on plain tensors; shapes are checked, and A, Aᴴ and their gradients are made
of them, here. Knows no back end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from deepinv.physics import LinearPhysics

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.events import Box
from napari_unroll.physics.autograd import Linear
from napari_unroll.physics.convolution import Circular
from napari_unroll.scan.geometry import VolumeGrid


class VolumePhysics(LinearPhysics, ABC):
    """A linear operator A on volumes x (batch, 1, z, y, x) over ``grid``, of the kind of ``dtype`` (real or complex).

    ``reason`` says which back end this is and why it was chosen; ``is_periodic`` whether AᴴA commutes with circular
    shifts, None where that must be tried. ``period`` (z, y, x) are circular shifts in voxels that it commutes with for sure;
    None where there are none, or they are not known. ``has_direct_normal`` tells of an AᴴA that needs neither A nor Aᴴ and is
    several times cheaper than both.
    """

    dtype: torch.dtype = torch.float32
    reason: str = ""
    is_periodic: bool | None = None
    period: tuple[int, int, int] | None = None
    has_direct_normal: bool = False
    x_axes = "volume (batch, 1, z, y, x)"
    y_axes = "measurements (batch, …)"

    def __init__(
        self, grid: VolumeGrid, device: torch.device | str = "cpu", reason: str | None = None, **deepinv: Any
    ) -> None:
        super().__init__(device=device, **deepinv)
        self.grid = grid
        self.reason = self.reason if reason is None else reason
        self.register_buffer("_place", torch.empty(0, device=device), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        place: torch.Tensor = self._place
        return place.device

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(1, 1, z, y, x)."""
        return (1, 1, *self.grid.shape)

    @property
    @abstractmethod
    def y_shape(self) -> tuple[int, ...]:
        """Of measurements with a batch axis of one."""

    @property
    def csm(self) -> torch.Tensor | None:
        """Coil sensitivity maps (coil, z, y, x) where AᴴA = Σ_c S_cᴴ C S_c with :meth:`normal_kernel`; else None."""
        return None

    @property
    def is_one_sided(self) -> bool:
        """Whether rays come from one side of the volume only."""
        return False

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Measurements of ``x``; keywords replace parameters of the operator, as in deepinv. Raises ScanError."""
        self.update_parameters(**kwargs)
        self._check(x, self.x_shape, self.x_axes)
        return Linear.apply(x, self._forward, self._adjoint)

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Aᴴ y; keywords as for :meth:`A`. Raises ScanError."""
        self.update_parameters(**kwargs)
        self._check(y, self.y_shape, self.y_axes)
        return Linear.apply(y, self._adjoint, self._forward)

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """AᴴA x by its fastest exact form: that of the back end where it has one, else A and Aᴴ. Raises ScanError."""
        self._check(x, self.x_shape, self.x_axes)
        return Linear.apply(x, self._normal, self._normal)

    def rss(self, y: torch.Tensor) -> torch.Tensor:
        """Magnitude of the quick reconstruction (batch, 1, z, y, x), where there are coils their root sum of squares."""
        out: torch.Tensor = self.A_dagger(y).abs()
        return out

    def restrict(self, box: Box) -> VolumePhysics:
        """A Pᵀ for the patch ``box``: what A makes of a volume that is zero outside it."""
        return _Restricted(self, box)

    def coarsen(self, factor: int) -> VolumePhysics | None:
        """The same measurements of ``factor`` times larger voxels; None where the operator is tied to its grid."""
        return None

    def thin(self, factor: int) -> VolumePhysics:
        """Fewer measurements of the same volume, with nearly the same AᴴA up to scale: what ``factor`` times larger pixels see."""
        return self

    def normal_kernel(self) -> tuple[torch.Tensor, Circular]:
        """The convolution kernel (1, z, y, x) of C in wrapped lag order, and its circular axes; see :attr:`csm`.

        Raises ParameterError where AᴴA is no sum of weighted convolutions.
        """
        raise ParameterError(f"{type(self).__name__} has no normal kernel in closed form; fit one.")

    @abstractmethod
    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        """A x without a graph."""

    @abstractmethod
    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Aᴴ y without a graph."""

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        """AᴴA x without a graph."""
        return self._adjoint(self._forward(x))

    def _check(self, tensor: torch.Tensor, shape: tuple[int, ...], axes: str) -> None:
        """ScanError unless ``tensor`` is of this operator's kind, with the axes ``shape[1:]`` after its batch axis."""
        if tuple(tensor.shape[1:]) != shape[1:] or tensor.is_complex() != self.dtype.is_complex:
            kind = "complex" if self.dtype.is_complex else "real"
            raise ScanError(
                f"Expected a {kind} {axes} with axes {shape[1:]} after the batch; got {tensor.dtype} "
                f"of shape {tuple(tensor.shape)}."
            )


class _Restricted(VolumePhysics):
    """A Pᵀ by an operator that only knows whole volumes."""

    def __init__(self, whole: VolumePhysics, box: Box) -> None:
        super().__init__(whole.grid.restrict(box), whole.device, f"{whole.reason}, of a patch")
        self.whole, self.box, self.dtype = whole, box, whole.dtype
        self.has_direct_normal = whole.has_direct_normal

    @property
    def y_shape(self) -> tuple[int, ...]:
        """That of the whole operator."""
        return self.whole.y_shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.whole.A(self._embed(x))

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._crop(self.whole.A_adjoint(y))

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self._crop(self.whole.normal(self._embed(x)))

    def _embed(self, x: torch.Tensor) -> torch.Tensor:
        whole = x.new_zeros(len(x), 1, *self.whole.grid.shape)
        whole[(..., *self.box)] = x
        return whole

    def _crop(self, x: torch.Tensor) -> torch.Tensor:
        return x[(..., *self.box)].contiguous()
