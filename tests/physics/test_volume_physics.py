"""What every operator owes to its base: patches, gradients of any order, refusals in words, closed-form kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.coil_physics import csm_of
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.imaging import DownsampledBlur, VolumeBlur, VolumeInpainting
from napari_unroll.physics.laws import adjoint_error, random_like
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.blurring import BlurredSampling, gaussian_kernel
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import coil_maps
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_3d

SHAPE = (5, 6, 7)
GRID = VolumeGrid(shape=SHAPE, spacing_mm=(1.0, 1.5, 0.8))
BOX = (slice(1, 4), slice(0, 5), slice(3, 7))


def xray():
    return XRay(ParallelBeam.circular(angles_rad=np.arange(4) * 0.8, detector_shape=(6, 9)), GRID, n_threads=1)


def cartesian():
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    return CartesianMRI(mask, coil_maps(SHAPE, 3), GRID)


def radial():
    return NonCartesianMRI(
        NonCartesianSampling(trajectory=radial_3d(9, 8), shape=SHAPE, n_coils=2), coil_maps(SHAPE, 2)
    )


def blur():
    return VolumeBlur(torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0)), GRID, "valid")


def inpainting():
    return VolumeInpainting(torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.5, GRID)


def downsampling():
    return DownsampledBlur(BlurredSampling(kernel=gaussian_kernel((3, 5, 4), 2), shape=SHAPE, factor=(1, 3, 1)), GRID)


every_operator = pytest.mark.parametrize("make", [xray, cartesian, radial, blur, inpainting, downsampling])


@every_operator
def test_a_patch_is_what_the_whole_makes_of_a_volume_that_is_zero_around_it(make):
    whole = make()
    patch = whole.restrict(BOX)
    assert patch.grid == whole.grid.restrict(BOX)
    assert (patch.dtype, patch.y_shape) == (whole.dtype, whole.y_shape)
    u = random_like((2, *patch.x_shape[1:]), patch.dtype, "cpu", 0)
    x = u.new_zeros(2, 1, *SHAPE)
    x[(..., *BOX)] = u
    torch.testing.assert_close(patch.A(u), whole.A(x), rtol=1e-4, atol=1e-4)
    assert adjoint_error(patch) < 1e-6


@every_operator
def test_the_normal_operator_is_the_adjoint_of_the_forward_on_patches_too(make):
    for physics in (make(), make().restrict(BOX)):
        x = random_like(physics.x_shape, physics.dtype, "cpu", 2)
        exact = physics.A_adjoint(physics.A(x))
        assert torch.linalg.vector_norm(physics.normal(x) - exact) < 1e-5 * torch.linalg.vector_norm(exact)


@every_operator
def test_gradients_of_gradients_are_the_operator_again(make):
    """½‖A x‖² has the gradient N x, whose derivative along v is N v."""
    physics = make()
    x, v = (random_like(physics.x_shape, physics.dtype, "cpu", seed) for seed in (0, 1))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * physics.A(x).abs().square().sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, physics.normal(x), rtol=1e-4, atol=1e-4)
    (second,) = torch.autograd.grad((gradient.conj() * v).real.sum(), x)
    torch.testing.assert_close(second, physics.normal(v), rtol=1e-4, atol=1e-4)


@every_operator
def test_the_wrong_kind_of_tensor_is_refused_in_words(make):
    physics = make()
    other = torch.float32 if physics.dtype.is_complex else torch.complex64
    with pytest.raises(ScanError, match=r"Expected a (real|complex) .* got"):
        physics.A(torch.zeros(physics.x_shape, dtype=other))
    with pytest.raises(ScanError, match=r"Expected a (real|complex) .* got"):
        physics.A_adjoint(torch.zeros(physics.y_shape, dtype=other))
    with pytest.raises(ScanError, match="after the batch"):
        physics.A(torch.zeros(1, 1, 2, 2, 2, dtype=physics.dtype))


@pytest.mark.parametrize("make", [cartesian, radial])
def test_the_kernel_and_the_maps_make_the_normal_operator(make):
    physics = make()
    kernel, circular = physics.normal_kernel()
    factors = NormalFactors(kernel=kernel, left=physics.csm, right=physics.csm, shape=SHAPE, circular=circular)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(factors.apply(x), physics.normal(x), rtol=1e-4, atol=2e-5)


def test_operators_without_coils_have_neither_maps_nor_kernel():
    assert xray().csm is None
    with pytest.raises(ParameterError, match="coil maps"):
        csm_of(xray())
    with pytest.raises(ParameterError, match="closed form"):
        xray().normal_kernel()


def test_only_rays_pass_through_larger_voxels():
    coarse = xray().coarsen(2)
    assert coarse.grid == GRID.resample((3, 3, 4))
    assert coarse.y_shape == xray().y_shape
    assert cartesian().coarsen(2) is None


def test_fewer_rays_have_nearly_the_same_normal_operator_up_to_scale():
    views = ParallelBeam.circular(angles_rad=np.arange(7) * 0.45, detector_shape=(64, 70))
    physics = XRay(views, VolumeGrid(shape=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0)), n_threads=1)
    few = physics.thin(2)
    assert few.grid == physics.grid
    assert few.y_shape == (1, 1, 7, 32, 35)
    x = torch.ones(physics.x_shape)
    exact, thinned = physics.normal(x), few.normal(x)
    assert torch.linalg.vector_norm(thinned - exact / 4) < 0.1 * torch.linalg.vector_norm(exact / 4)


def test_of_small_detectors_and_without_rays_nothing_is_left_out():
    assert xray().thin(4).y_shape == xray().y_shape
    cartesian_physics = cartesian()
    assert cartesian_physics.thin(2) is cartesian_physics


def test_without_coils_the_magnitude_stands_for_their_root_sum_of_squares():
    physics = inpainting()
    y = physics.A(random_like(physics.x_shape, physics.dtype, "cpu", 0))
    torch.testing.assert_close(physics.rss(y), physics.A_dagger(y).abs())


def test_an_operator_without_its_two_maps_cannot_be_made():
    class Half(VolumePhysics):
        @property
        def y_shape(self):
            return self.x_shape

    with pytest.raises(TypeError, match="_adjoint"):
        Half(GRID)
