from pathlib import Path

import numpy as np
import pytest
import torch
from deepinv.physics import MultiCoilMRI

from napari_unroll.errors import ScanError
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.laws import adjoint_error, linearity_error, normal_norm, random_like
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import coil_maps
from napari_unroll.scan.preprocess_mri import estimate_csm

SHAPES = [(8, 12, 10), (5, 9, 7), (1, 16, 15)]


def make(shape: tuple[int, int, int], n_coils: int = 3, seed: int = 0) -> CartesianMRI:
    mask = np.random.default_rng(seed).random(shape) < 0.4
    return CartesianMRI(mask, coil_maps(shape, n_coils, seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_coils", [1, 4])
def test_laws(shape: tuple[int, int, int], n_coils: int) -> None:
    physics = make(shape, n_coils)
    assert physics.x_shape == (1, 1, *shape)
    assert physics.y_shape == (1, n_coils, *shape)
    assert adjoint_error(physics) < 1e-6
    assert linearity_error(physics) < 1e-5
    assert normal_norm(physics) <= 1 + 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_the_transform_is_centred_and_orthonormal(shape: tuple[int, int, int]) -> None:
    physics = CartesianMRI(np.ones(shape, bool), np.ones((1, *shape), np.complex64))
    constant = torch.ones(1, 1, *shape, dtype=torch.complex64)
    spectrum = physics.A(constant)
    peak = tuple(n // 2 for n in shape)
    assert spectrum[0, 0][peak].real.item() == pytest.approx(np.sqrt(np.prod(shape)), rel=1e-5)
    assert torch.linalg.vector_norm(spectrum).item() == pytest.approx(np.sqrt(np.prod(shape)), rel=1e-5)
    torch.testing.assert_close(physics.A_adjoint(spectrum), constant)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 6), (3, 1, 2)])
def test_it_is_what_deepinv_computes_from_two_channels(shape: tuple[int, int, int]) -> None:
    ours = make(shape)
    theirs = MultiCoilMRI(mask=ours.mask, coil_maps=ours.csm[None], three_d=True)
    x = random_like(ours.x_shape, ours.dtype, "cpu", 1)
    y = random_like(ours.y_shape, ours.dtype, "cpu", 2)
    samples = theirs.A(torch.cat([x.real, x.imag], 1))
    torch.testing.assert_close(ours.A(x), torch.complex(samples[:, 0], samples[:, 1]), atol=2e-6, rtol=1e-5)
    image = theirs.A_adjoint(torch.stack([y.real, y.imag], 1))
    torch.testing.assert_close(ours.A_adjoint(y), torch.complex(image[:, :1], image[:, 1:]), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_normal_operator_is_the_product(shape: tuple[int, int, int]) -> None:
    physics = make(shape, 4)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 1)
    torch.testing.assert_close(physics.normal(x), physics.A_adjoint(physics.A(x)), atol=2e-6, rtol=1e-5)


def test_matches_the_formula_written_out() -> None:
    physics = make((4, 6, 5))
    x = random_like(physics.x_shape, physics.dtype, "cpu", 1)
    image = physics.csm.numpy() * x[0].numpy()
    axes = (1, 2, 3)
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)
    np.testing.assert_allclose(physics.A(x)[0].numpy(), physics.mask.numpy() * spectrum, atol=1e-5)


def test_a_full_mask_is_inverted_exactly() -> None:
    shape = (3, 8, 7)
    physics = CartesianMRI(np.ones(shape, bool), coil_maps(shape, 4))
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(physics.A_dagger(physics.A(x)), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(physics.rss(physics.A(x)), x.abs(), atol=1e-5, rtol=1e-5)


def test_gradient_of_the_data_misfit_is_the_adjoint_of_the_residual() -> None:
    physics = make((4, 6, 5))
    x = random_like(physics.x_shape, physics.dtype, "cpu", 1).requires_grad_()
    y = random_like(physics.y_shape, physics.dtype, "cpu", 2)
    (0.5 * (physics.A(x) - y).abs().square().sum()).backward()
    torch.testing.assert_close(x.grad, physics.A_adjoint(physics.A(x.detach()) - y), atol=1e-5, rtol=1e-5)


def test_a_batch_is_its_items() -> None:
    physics = make((4, 6, 5))
    x = random_like((2, *physics.x_shape[1:]), physics.dtype, "cpu", 1)
    y = physics.A(x)
    torch.testing.assert_close(y, torch.cat([physics.A(x[:1]), physics.A(x[1:])]))
    torch.testing.assert_close(physics.A_adjoint(y)[1:], physics.A_adjoint(y[1:]))


def test_parameters_can_be_replaced() -> None:
    physics = make((4, 6, 5))
    x = random_like(physics.x_shape, physics.dtype, "cpu", 1)
    full = physics.A(x, mask=torch.ones(4, 6, 5))
    assert (full != 0).all()
    physics.update(coil_maps=torch.zeros(3, 4, 6, 5, dtype=torch.complex64))
    assert not physics.A(x).any()


def test_noise_stays_on_measured_samples() -> None:
    from deepinv.physics import GaussianNoise

    physics = make((4, 6, 5))
    physics.set_noise_model(GaussianNoise(0.1))
    y = physics(random_like(physics.x_shape, physics.dtype, "cpu", 1))
    assert not y[:, :, physics.mask == 0].any()


def test_what_does_not_fit_is_said() -> None:
    maps = coil_maps((4, 6, 5), 2)
    with pytest.raises(ScanError, match="on one grid"):
        CartesianMRI(np.ones((4, 6, 6), bool), maps)
    with pytest.raises(ScanError, match="volume grid"):
        CartesianMRI(np.ones((4, 6, 5), bool), maps, VolumeGrid(shape=(4, 6, 6)))
    physics = CartesianMRI(np.ones((4, 6, 5), bool), maps)
    with pytest.raises(ScanError, match="complex image"):
        physics.A(torch.zeros(1, 1, 4, 6, 5))
    with pytest.raises(ScanError, match="k-space"):
        physics.A_adjoint(torch.zeros(1, 3, 4, 6, 5, dtype=torch.complex64))


def conjugate_gradients(physics: CartesianMRI, y: torch.Tensor, n_iter: int) -> torch.Tensor:
    x = torch.zeros_like(physics.A_adjoint(y))
    r = physics.A_adjoint(y)
    p, energy = r.clone(), r.abs().square().sum()
    for _ in range(n_iter):
        q = physics.A_adjoint(physics.A(p))
        step = energy / (p.conj() * q).sum().real
        x, r = x + step * p, r - step * q
        energy, before = r.abs().square().sum(), energy
        p = r + energy / before * p
    return x


def test_a_measured_brain_is_explained_by_maps_estimated_from_itself(shared_data: Path) -> None:
    kspace = np.load(shared_data / "sigpy_brain_ksp" / "cartesian_ksp.npy")[:, None].astype(np.complex64)
    mask = np.abs(kspace).sum(0) > 0
    physics = CartesianMRI(mask, estimate_csm(kspace, mask))
    y = torch.from_numpy(kspace)[None]
    x = conjugate_gradients(physics, y, 10)
    residual = torch.linalg.vector_norm(physics.A(x) - y) / torch.linalg.vector_norm(y)
    assert residual < 0.08
    background = x[..., :20, :20].abs().mean() / x[..., 60:170, 50:130].abs().mean()
    assert background < 0.15
