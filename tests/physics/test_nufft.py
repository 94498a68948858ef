from pathlib import Path

import numpy as np
import pytest
import torch
from deepinv.physics import MultiCoilMRI

from napari_unroll.errors import ScanError
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.laws import adjoint_error, linearity_error, random_like
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import brain, coil_maps
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d, radial_3d, stack_of_stars

CASES = {
    "2d": ((1, 12, 15), radial_2d(9, 20)),
    "stars": ((5, 8, 9), stack_of_stars(4, 12, 5)),
    "3d": ((6, 9, 8), radial_3d(12, 14)),
}
cases = pytest.mark.parametrize("case", CASES)


def make(case: str, n_coils: int = 2) -> NonCartesianMRI:
    shape, trajectory = CASES[case]
    sampling = NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=n_coils)
    return NonCartesianMRI(sampling, coil_maps(shape, n_coils))


def dense(physics: NonCartesianMRI) -> np.ndarray:
    """The exact sum written out: matrix (sample, voxel) in double precision."""
    shape = physics.grid.shape
    voxels = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij"), -1).reshape(-1, 3)
    k = physics.sampling.trajectory.reshape(-1, 3)
    return np.asarray(np.exp(-2j * np.pi * k @ voxels.T) / np.sqrt(len(voxels)))


@cases
def test_laws(case: str) -> None:
    physics = make(case)
    assert tuple(physics.A(torch.zeros(physics.x_shape, dtype=physics.dtype)).shape) == physics.y_shape
    assert adjoint_error(physics) < 1e-6
    assert linearity_error(physics) < 1e-5


@cases
def test_matches_the_sum_written_out(case: str) -> None:
    physics = make(case)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    images = (physics.csm * x)[0].reshape(2, -1).numpy()
    expected = (dense(physics) @ images.T.astype(np.complex128)).T.reshape(physics.y_shape[1:])
    error = np.linalg.norm(physics.A(x)[0].numpy() - expected) / np.linalg.norm(expected)
    assert error < 1e-6


@pytest.mark.parametrize("shape", [(1, 8, 9), (4, 6, 5), (2, 3, 16)])
def test_positions_on_the_grid_give_the_centred_fft(shape: tuple[int, int, int]) -> None:
    axes = [(np.arange(n) - n // 2) / n for n in shape]
    k = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(shape[0], -1, 3)
    sampling = NonCartesianSampling(trajectory=k, shape=shape, n_coils=1)
    physics = NonCartesianMRI(sampling, np.ones((1, *shape), np.complex64))
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(
        physics.A(x).reshape(x.shape), MultiCoilMRI.fft(x, dim=(-3, -2, -1)), atol=2e-5, rtol=1e-4
    )
    torch.testing.assert_close(physics.density, torch.ones_like(physics.density), atol=0.03, rtol=0)


@cases
def test_the_direct_normal_operator_is_the_adjoint_of_the_forward(case: str) -> None:
    physics = make(case)
    x = random_like((2, *physics.x_shape[1:]), physics.dtype, "cpu", 3)
    exact = physics.A_adjoint(physics.A(x))
    assert torch.linalg.vector_norm(physics.normal(x) - exact) < 1e-6 * torch.linalg.vector_norm(exact)


def test_coils_in_turn_are_coils_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    physics = make("2d", n_coils=3)
    x, y = (random_like(shape, physics.dtype, "cpu", 4) for shape in (physics.x_shape, physics.y_shape))
    one_by_one = physics.A(x), physics.A_adjoint(y)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    torch.testing.assert_close(physics.A(x), one_by_one[0])
    torch.testing.assert_close(physics.A_adjoint(y), one_by_one[1])


@cases
def test_the_kernel_makes_the_normal_operator_exact(case: str) -> None:
    physics = make(case)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 3)
    kernel, _ = physics.normal_kernel()
    factors = NormalFactors(kernel=kernel, left=physics.csm, right=physics.csm, shape=physics.grid.shape)
    exact = physics.A_adjoint(physics.A(x))
    gap = torch.linalg.vector_norm(factors.apply(x) - exact) / torch.linalg.vector_norm(exact)
    assert gap < 1e-5


def test_gradient_of_the_data_misfit_is_the_adjoint_of_the_residual() -> None:
    physics = make("2d")
    x = random_like(physics.x_shape, physics.dtype, "cpu", 1).requires_grad_()
    y = random_like(physics.y_shape, physics.dtype, "cpu", 2)
    (0.5 * (physics.A(x) - y).abs().square().sum()).backward()
    torch.testing.assert_close(x.grad, physics.A_adjoint(physics.A(x.detach()) - y), atol=1e-5, rtol=1e-5)


def test_a_batch_is_its_items() -> None:
    physics = make("stars")
    x = random_like((2, *physics.x_shape[1:]), physics.dtype, "cpu", 1)
    y = physics.A(x)
    torch.testing.assert_close(y[1:], physics.A(x[1:]))
    torch.testing.assert_close(physics.A_adjoint(y)[1:], physics.A_adjoint(y[1:]))


def test_gridding_reconstruction_shows_a_brain() -> None:
    shape = (1, 48, 48)
    sampling = NonCartesianSampling(trajectory=radial_2d(80, 96), shape=shape, n_coils=4)
    physics = NonCartesianMRI(sampling, coil_maps(shape, 4))
    truth = torch.from_numpy(brain(shape, 1))[None, None]
    found = physics.A_dagger(physics.A(truth))
    assert torch.linalg.vector_norm(found - truth) < 0.25 * torch.linalg.vector_norm(truth)
    assert physics.rss(physics.A(truth)).dtype == torch.float32


def test_what_does_not_fit_is_said() -> None:
    shape, trajectory = CASES["2d"]
    sampling = NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=2)
    with pytest.raises(ScanError, match="coil maps"):
        NonCartesianMRI(sampling, coil_maps(shape, 3))
    with pytest.raises(ScanError, match="volume grid"):
        NonCartesianMRI(sampling, coil_maps(shape, 2), VolumeGrid(shape=(1, 12, 12)))
    with pytest.raises(ScanError, match="complex image"):
        make("2d").A(torch.zeros(1, 1, *shape))


def test_a_measured_radial_brain_agrees_with_its_coil_maps(shared_data: Path) -> None:
    """The maps' first axis runs along the real part of the trajectory, and the samples are stored without weights."""
    import h5py

    with h5py.File(shared_data / "pyqmri_radial" / "VFA_radial_smalltest.h5") as file:
        samples = file["real_dat"][0, :, 0] + 1j * file["imag_dat"][0, :, 0]
        y = torch.from_numpy(samples.astype(np.complex64))[None]
        real, imaginary, maps = file["real_traj"][0], file["imag_traj"][0], file["Coils"][()]
    residuals = []
    for k in ([0 * real, real, imaginary], [0 * real, imaginary, real]):
        sampling = NonCartesianSampling(trajectory=np.stack(k, -1), shape=maps.shape[1:], n_coils=len(maps))
        residuals.append(weighted_residual(NonCartesianMRI(sampling, maps), y))
    assert residuals[0] < 0.3 < 0.6 < residuals[1]


def weighted_residual(physics: NonCartesianMRI, y: torch.Tensor, n_iter: int = 4) -> float:
    """Relative density-weighted residual after some steps of conjugate gradients."""
    w = physics.density
    r = physics.A_adjoint(w * y)
    x, p, energy = torch.zeros_like(r), r, r.abs().square().sum()
    for _ in range(n_iter):
        q = physics.A_adjoint(w * physics.A(p))
        step = energy / (p.conj() * q).sum().real
        x, r = x + step * p, r - step * q
        before, energy = energy, r.abs().square().sum()
        p = r + energy / before * p
    gap = torch.linalg.vector_norm(w.sqrt() * (physics.A(x) - y)) / torch.linalg.vector_norm(w.sqrt() * y)
    return float(gap)
