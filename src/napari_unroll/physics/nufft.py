"""Non-Cartesian multi-coil Fourier sampling by finufft, and its normal operator as Toeplitz convolutions.

y_c(k) = √w n^{−1/2} Σ_r S_c(r) x(r) exp(−2πi k·r) with r counted from voxel n // 2, as the centred orthonormal FFT does.
Barnett, Magland, af Klinteberg, "A parallel nonuniform fast Fourier transform library based on an exponential of
semicircle kernel" (2019), doi:10.1137/18M120885X; Fessler et al., "Toeplitz-based iterative image reconstruction for MRI
with correction for magnetic field inhomogeneity" (2005), doi:10.1109/TSP.2005.853152. Knows no files.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property

import finufft
import numpy as np
import torch

from napari_unroll.errors import ScanError
from napari_unroll.interrupt import check, stage
from napari_unroll.physics.coil_physics import CoilPhysics
from napari_unroll.physics.convolution import Circular, Convolution, make_convolution
from napari_unroll.physics.memory import require
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.preprocess_mri import unit_norm
from napari_unroll.scan.trajectories import NonCartesianSampling

TOLERANCE = 1e-7
"""Of finufft, in double precision; in single precision it errs by 1e-5 and is no faster."""
DENSITY_TOLERANCE = 1e-6
"""Makes the kernel of the density compensation seven points of a grid twice as fine wide."""
SHORT = 8
"""Axes of fewer voxels are repeated for the density compensation, for finufft's grids hold at least two widths of its kernel."""


class NUFFT:
    """Sums over images at positions ``k`` (sample, 3) in cycles per voxel, and the exact transpose.

    ``shape`` (z, y, x) is that of the images; axes of one voxel take no part. Values come as complex64 or complex128, go as the
    latter, and are computed with as many threads as torch takes. A plan is made once for every number of images that are
    transformed at once; more of them than threads only take memory.

    Arrays are numpy's: threads of torch would go on spinning, after every step of theirs, beside those of finufft.
    """

    def __init__(self, k: np.ndarray, shape: Sequence[int]) -> None:
        self.shape = tuple(int(n) for n in shape)
        axes = [axis for axis, n in enumerate(self.shape) if n > 1] or [2]
        self._modes = tuple(self.shape[axis] for axis in axes)
        self._points = [np.ascontiguousarray(2 * np.pi * k[:, axis]) for axis in axes]
        self._plans: dict[tuple[int, int], finufft.Plan] = {}
        self._lock = threading.Lock()

    @property
    def n_samples(self) -> int:
        """Number of positions."""
        return len(self._points[0])

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Σ_r x(r) exp(−2πi k·r): samples (image, sample) of images (image, z, y, x)."""
        return self._run("execute", images, self._modes, (self.n_samples,))

    def adjoint(self, samples: np.ndarray) -> np.ndarray:
        """Σ_k y(k) exp(2πi k·r): images (image, z, y, x) of samples (image, sample)."""
        images = self._run("execute_adjoint", samples, (self.n_samples,), self._modes)
        return images.reshape(-1, *self.shape)

    def _run(self, what: str, given: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
        check()
        n = len(given)
        values = np.ascontiguousarray(given, np.complex128).reshape(before if n == 1 else (n, *before))
        found = np.empty(after if n == 1 else (n, *after), np.complex128)
        with self._lock:
            getattr(self._plan(n), what)(values, out=found)
        return found.reshape(n, *after)

    def _plan(self, n_images: int) -> finufft.Plan:
        key = n_images, torch.get_num_threads()
        if key not in self._plans:
            plan = finufft.Plan(2, self._modes, n_images, TOLERANCE, -1, "complex128", nthreads=key[1])
            plan.setpts(*self._points)
            self._plans[key] = plan
        return self._plans[key]


class NonCartesianMRI(CoilPhysics):
    """Multi-coil samples of a complex image along any trajectory (radial, spiral, …).

    x is complex64 (batch, 1, z, y, x), y complex64 (batch, coil, shot, readout), √w times the samples for the sampling's
    weights w; ``csm`` (coil, z, y, x). Against the exact sum the error is below 1e-6; the adjoint is matched to rounding. Every
    thread takes a coil of its own.

    Raises ScanError where trajectory, maps and grid do not fit.
    """

    reason = "non-uniform FFT (finufft on the CPU)"
    y_axes = "k-space (batch, coil, shot, readout)"
    has_direct_normal = True

    def __init__(
        self,
        sampling: NonCartesianSampling,
        csm: np.ndarray | torch.Tensor,
        grid: VolumeGrid | None = None,
        device: torch.device | str = "cpu",
        reason: str = reason,
    ) -> None:
        if tuple(csm.shape) != (sampling.n_coils, *sampling.shape):
            raise ScanError(
                f"Expected coil maps (coil, z, y, x) = {(sampling.n_coils, *sampling.shape)}; got {tuple(csm.shape)}."
            )
        grid = grid or VolumeGrid(shape=sampling.shape)
        if grid.shape != sampling.shape:
            raise ScanError(f"The trajectory is for a grid {sampling.shape} but the volume grid is {grid.shape}.")
        super().__init__(grid, device, reason)
        require(16 * math.prod(doubled(grid.shape)), f"The non-uniform FFT of {grid.shape} voxels")
        self.sampling = sampling
        self._csm = torch.as_tensor(csm, dtype=torch.complex64, device=device)
        self._maps = _array(self._csm)
        assert sampling.weights is not None
        self._root = np.sqrt(sampling.weights / math.prod(grid.shape)).astype(np.float32)
        self._positions = sampling.trajectory.reshape(-1, 3)
        self.nufft = NUFFT(self._positions, sampling.shape)

    @property
    def csm(self) -> torch.Tensor:
        """Coil sensitivity maps (coil, z, y, x)."""
        return self._csm

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(1, coil, shot, readout)."""
        return (1, *self.sampling.measurement_shape)

    def compensate(self, y: torch.Tensor) -> torch.Tensor:
        """What makes weighted samples density-compensated under :meth:`A_adjoint`: density / w times ``y``."""
        weights = torch.tensor(self.sampling.weights, dtype=torch.float32, device=self.device)
        return y * torch.where(weights > 0, self.density / weights.clamp_min(1e-30), 0)

    def _samples(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        images, maps = _array(x), self._maps[coils]
        y = np.empty((len(x), len(maps), *self._root.shape), np.complex64)
        for item, few in _few_at_once(len(x), len(maps)):
            samples = self.nufft.forward(maps[few] * images[item])
            np.multiply(samples.reshape(-1, *self._root.shape), self._root, out=y[item, few], casting="same_kind")
        return torch.from_numpy(y).to(x.device)

    def _combined(self, y: torch.Tensor, coils: slice) -> torch.Tensor:
        samples, maps = _array(y), self._maps[coils]
        x = np.zeros((len(y), *self.grid.shape), np.complex64)
        for item, few in _few_at_once(len(y), len(maps)):
            x[item] += (maps[few].conj() * self._spread(samples[item, few])).sum(0)
        return torch.from_numpy(x)[:, None].to(y.device)

    def _images(self, y: torch.Tensor) -> torch.Tensor:
        samples, images = _array(y), np.empty((*y.shape[:2], *self.grid.shape), np.complex64)
        for item, few in _few_at_once(*samples.shape[:2]):
            images[item, few] = self._spread(samples[item, few])
        return torch.from_numpy(images).to(y.device)

    def _normal_by(self, x: torch.Tensor, coils: slice) -> torch.Tensor:
        found = torch.zeros_like(x)
        for coil in self.csm[coils]:
            found += coil.conj() * self._toeplitz(coil * x)
        return found

    def _spread(self, y: np.ndarray) -> np.ndarray:
        """Images (coil, z, y, x) of samples (coil, shot, readout)."""
        return self.nufft.adjoint(np.multiply(y, self._root, dtype=np.complex128).reshape(len(y), -1))

    @cached_property
    def density(self) -> torch.Tensor:
        """Density compensation (shot, readout): the share of k-space that each sample stands for."""
        weights = density_compensation(self._positions, self.grid.shape)
        return torch.from_numpy(weights).reshape(self.y_shape[-2:]).to(self.device)

    @cached_property
    def _toeplitz(self) -> Convolution:
        """FᴴWF on one coil's image."""
        kernel, circular = self.normal_kernel()
        return make_convolution(kernel, self.grid.shape, self.grid.shape, circular)

    def normal_kernel(self) -> tuple[torch.Tensor, Circular]:
        """The linear (Toeplitz) kernel of Fᴴ W F, lags −(n−1) … n−1 at index lag mod 2n; axes of one voxel have lag 0 only.

        Each half of the lags along an axis is an image of the grid's own size whose middle is shifted by n // 2 or n // 2 − n.
        """
        shape = self.grid.shape
        kernel = torch.zeros(1, *doubled(shape), dtype=self.dtype, device=self.device)
        weights = np.square(self._root, dtype=np.float64).reshape(-1)
        for halves in itertools.product(*((0, 1) if n > 1 else (0,) for n in shape)):
            shift = [n // 2 - half * n for n, half in zip(shape, halves, strict=True)]
            turned = weights * np.exp(2j * np.pi * (self._positions @ shift))
            z, y, x = (slice(half * n, half * n + n) for n, half in zip(shape, halves, strict=True))
            kernel[0, z, y, x] = torch.from_numpy(self.nufft.adjoint(turned[None])[0])
        for axis, n in enumerate(shape):
            if n > 1:
                kernel.select(axis + 1, n).zero_()
        return kernel, (False, False, False)


def _array(values: torch.Tensor) -> np.ndarray:
    """As numpy has it, on the CPU."""
    return values.detach().resolve_conj().cpu().numpy()


def _few_at_once(n_items: int, n_coils: int) -> Iterator[tuple[int, slice]]:
    """(item of the batch, as many coils as there are threads)."""
    step = torch.get_num_threads()
    for item, first in itertools.product(range(n_items), range(0, n_coils, step)):
        yield item, slice(first, first + step)


def doubled(shape: Sequence[int]) -> tuple[int, ...]:
    """Twice the voxels along every axis that has more than one."""
    return tuple(1 if n == 1 else 2 * n for n in shape)


def density_compensation(k: np.ndarray, shape: Sequence[int], n_iter: int = 15) -> np.ndarray:
    """Weights (sample,), float32, of the positions ``k`` (sample, 3): the share of one voxel of k-space of ``shape`` each.

    Spread to a grid twice as fine and interpolated from it again, they are one everywhere. Pipe and Menon, "Sampling density
    compensation in MRI" (1999), doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V.
    """
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    if not axes:
        return np.full(len(k), 1 / len(k), np.float32)
    positions, modes = _repeated(k[:, axes], [shape[axis] for axis in axes])
    fine = tuple(2 * n for n in modes)
    options = {"spreadinterponly": 1, "upsampfac": 2.0, "nthreads": torch.get_num_threads()}
    grid = finufft.Plan(2, fine, 1, DENSITY_TOLERANCE, -1, "complex64", **options)
    grid.setpts(*(np.ascontiguousarray(2 * np.pi * along, np.float32) for along in positions.T))
    weights = np.ones(len(positions), np.complex64)
    kernel_sum = float(grid.execute_adjoint(weights).real.mean(dtype=np.float64)) * math.prod(fine) / len(positions)
    with stage(n_iter, "density compensation") as done:
        for step in range(n_iter):
            done(step)
            weights /= np.maximum(grid.execute(grid.execute_adjoint(weights)).real, 1e-12)
    return weights.real[: len(k)] * np.float32(kernel_sum**2 / 2 ** len(axes))


def _repeated(k: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Positions (sample, axis), those given first, of as many periods of k-space as make no axis of ``shape`` short; its shape."""
    modes = list(shape)
    for axis, n in enumerate(shape):
        times = math.ceil(SHORT / n)
        k = np.concatenate([k + np.eye(len(shape))[axis] * period for period in range(times)])
        k[:, axis] /= times
        modes[axis] = times * n
    return k, modes


def estimate_csm_along(sampling: NonCartesianSampling, samples: np.ndarray, radius: float = 12.0) -> np.ndarray:
    """Coil maps (coil, z, y, x), complex64, Σ|S|² = 1, from samples (coil, shot, readout) around k = 0.

    Coil images from a Hann window of ``radius`` cycles per field of view, over their root sum of squares (McKenzie et al.,
    doi:10.1002/mrm.10087), density-compensated. Raises ScanError where the trajectory hardly visits that middle.
    """
    distance = np.linalg.norm(sampling.trajectory * np.array(sampling.shape), axis=2) / radius
    window = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0).astype(np.float32)
    if (distance < 0.5).sum() < 32:
        raise ScanError("Coil maps need samples around k = 0, which this trajectory hardly visits; bring coil maps.")
    physics = NonCartesianMRI(sampling, np.ones((sampling.n_coils, *sampling.shape), np.complex64))
    y = torch.from_numpy(np.asarray(samples, np.complex64)) * torch.from_numpy(window)
    images = physics.coil_images(physics.compensate(y[None]))[0].numpy()
    return unit_norm(images)
