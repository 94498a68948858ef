"""Blurred and downsampled images: what was measured of an image as a value, and the kernels that are commonly assumed.

Kernels are axes (z, y, x), with lag 0 at index length // 2 and a sum of one. Knows no devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from pydantic import Field

from napari_unroll.errors import ScanError
from napari_unroll.record import Record
from napari_unroll.scan import limits
from napari_unroll.scan.geometry import _Value
from napari_unroll.scan.limits import LARGEST_WEIGHT

Shape = tuple[int, int, int]


class Blur(Record):
    """How images are measured: by a Gaussian blur, or downsampled with the bicubic kernel."""

    factor: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Downsampling by the bicubic kernel; 1: a Gaussian blur without downsampling.",
    )
    size: int = Field(
        default=9, ge=1, le=255, description="Edge of the Gaussian blur.", json_schema_extra={"unit": "voxels"}
    )
    variance: float = Field(
        default=5.0,
        gt=0,
        le=10_000,
        description="Variance of the Gaussian blur.",
        json_schema_extra={"unit": "voxels²"},
    )
    along_z: bool = Field(default=False, description="Blur and downsample along z too, instead of slice by slice.")

    @property
    def factors(self) -> Shape:
        """Downsampling (z, y, x)."""
        return (self.factor if self.along_z else 1, self.factor, self.factor)

    def sampling(self, shape: Shape) -> BlurredSampling:
        """What is measured of images of ``shape`` (z, y, x). Raises ScanError where they do not fit."""
        if self.factor > 1:
            return BlurredSampling(kernel=bicubic_kernel(self.factors), shape=shape, factor=self.factors)
        sizes = (self.size if self.along_z else 1, self.size, self.size)
        return BlurredSampling(kernel=gaussian_kernel(sizes, self.variance), shape=shape)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BlurredSampling(_Value):
    """An image convolved with ``kernel`` (z, y, x), of which every ``factor``-th voxel (z, y, x) was measured.

    The convolution wraps around the grid ``shape`` (z, y, x), which is a whole multiple of ``factor``. Measurement k of an
    axis with factor f is at voxel f k + (f − 1) // 2 of the blurred image: the middle of the f voxels that it stands for.

    Raises ScanError where kernel, grid and factor do not fit.
    """

    kernel: np.ndarray
    shape: Shape
    factor: Shape = (1, 1, 1)

    def __post_init__(self) -> None:
        shape = limits.counts(self.shape, 3, "The grid (z, y, x) of an image")
        factor = limits.counts(self.factor, 3, "The downsampling factors (z, y, x)")
        kernel = np.array(self.kernel, dtype=np.float64)
        if kernel.ndim != 3 or any(k > n for k, n in zip(kernel.shape, shape, strict=True)):
            raise ScanError(
                f"A blur kernel needs axes (z, y, x) and may not be larger than the image {shape}; got shape {kernel.shape}. "
                "Choose a smaller kernel or a larger image."
            )
        if not (np.abs(kernel) <= LARGEST_WEIGHT).all() or not kernel.any():
            raise ScanError("A blur kernel needs finite weights that are not all zero; correct the kernel.")
        if any(n % f for n, f in zip(shape, factor, strict=True)):
            raise ScanError(
                f"An image of {shape} voxels cannot be sampled every {factor} voxels (z, y, x): its lengths must be whole "
                "multiples. Crop the image."
            )
        kernel.setflags(write=False)
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "factor", factor)

    @property
    def measurement_shape(self) -> Shape:
        """(z, y, x) of what was measured."""
        return tuple(n // f for n, f in zip(self.shape, self.factor, strict=True))  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"BlurredSampling(shape={self.shape}, kernel of {self.kernel.shape}, factor={self.factor})"


def gaussian_kernel(size: Shape, variance: float) -> np.ndarray:
    """A Gaussian of ``variance`` (voxels²) along every axis, cut to ``size`` (z, y, x)."""
    return _separable([np.exp(-(_offsets(n) ** 2) / (2 * variance)) for n in size])


def bicubic_kernel(factor: Shape) -> np.ndarray:
    """The cubic convolution kernel (a = −½) stretched by ``factor`` (z, y, x): what bicubic downsampling averages with.

    Keys, "Cubic convolution interpolation for digital image processing" (1981), doi:10.1109/TASSP.1981.1163711. It has
    4f − 1 taps for odd factors, 4f for even ones, and one for a factor of one.
    """
    return _separable([_cubic(_offsets(4 * f - f % 2) / f) if f > 1 else np.ones(1) for f in factor])


def luminance(colours: np.ndarray) -> np.ndarray:
    """Grey values, float32, of red, green and blue in the last axis (ITU-R BT.709); an opacity beside them is left out."""
    return np.asarray(np.asarray(colours)[..., :3] @ np.array([0.2126, 0.7152, 0.0722], np.float32), np.float32)


def _offsets(n: int) -> np.ndarray:
    """−(n − 1) / 2 … (n − 1) / 2."""
    return np.arange(n) - (n - 1) / 2


def _cubic(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _separable(axes: list[np.ndarray]) -> np.ndarray:
    """The product of one-dimensional kernels (z, y, x), with a sum of one."""
    kernel: np.ndarray = reduce(np.multiply.outer, axes)
    return np.asarray(kernel / kernel.sum())
