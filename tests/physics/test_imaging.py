import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.imaging import DownsampledBlur, VolumeBlur, VolumeInpainting
from napari_unroll.physics.laws import adjoint_error, linearity_error, random_like
from napari_unroll.scan.blurring import Blur, BlurredSampling, bicubic_kernel
from napari_unroll.scan.geometry import VolumeGrid

GRIDS = [VolumeGrid(shape=(8, 8, 8)), VolumeGrid(shape=(7, 9, 12)), VolumeGrid(shape=(1, 16, 11))]


def kernel_for(grid: VolumeGrid, size: int) -> torch.Tensor:
    return torch.rand([min(size, n) for n in grid.shape], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("border", ["circular", "valid"])
@pytest.mark.parametrize("size", [3, 4])
def test_blur_laws(grid: VolumeGrid, border: str, size: int) -> None:
    physics = VolumeBlur(kernel_for(grid, size), grid, border)
    assert tuple(physics.A(torch.zeros(physics.x_shape)).shape) == physics.y_shape
    assert adjoint_error(physics) < 1e-6
    assert linearity_error(physics) < 1e-5


def test_circular_blur_commutes_with_shifts() -> None:
    physics = VolumeBlur(kernel_for(GRIDS[1], 3), GRIDS[1])
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(
        physics.A(x.roll((1, 2, 3), (2, 3, 4))), physics.A(x).roll((1, 2, 3), (2, 3, 4)), atol=1e-5, rtol=1e-5
    )


def test_valid_blur_is_the_plain_convolution() -> None:
    from scipy.ndimage import convolve

    grid = VolumeGrid(shape=(6, 7, 8))
    kernel = kernel_for(grid, 3)
    physics = VolumeBlur(kernel, grid, "valid")
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    expected = convolve(x[0, 0].numpy(), kernel.numpy())[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(physics.A(x)[0, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("grid", GRIDS)
def test_inpainting_laws(grid: VolumeGrid) -> None:
    mask = torch.rand(grid.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    physics = VolumeInpainting(mask, grid)
    assert adjoint_error(physics) < 1e-6
    assert linearity_error(physics) < 1e-6
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(physics.A_adjoint(physics.A(x)), mask * x)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ParameterError, match="border"):
        VolumeBlur(torch.ones(3, 3, 3), GRIDS[0], "reflect")
    with pytest.raises(ParameterError, match="kernel"):
        VolumeBlur(torch.ones(3, 3, 30), GRIDS[0])
    with pytest.raises(ParameterError, match="mask"):
        VolumeInpainting(torch.ones(3, 3, 3), GRIDS[0])


IMAGES = [
    ((1, 18, 15), 3, False), ((5, 16, 13), 1, False), ((2, 15, 21), 3, False), ((12, 15, 12), 3, True), ((1, 16, 20), 4, False),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "factor", "along_z"), IMAGES)
def test_laws_of_blurred_and_downsampled_images(shape: tuple[int, int, int], factor: int, along_z: bool) -> None:
    physics = DownsampledBlur(Blur(factor=factor, along_z=along_z).sampling(shape))
    assert tuple(physics.A(torch.zeros(physics.x_shape)).shape) == physics.y_shape
    assert adjoint_error(physics) < 1e-6
    assert linearity_error(physics) < 1e-5


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_a_measurement_is_in_the_middle_of_its_voxels(factor: int) -> None:
    """The mean place of what a measurement sees is the centre of its block."""
    n = 8 * factor
    sampling = BlurredSampling(kernel=bicubic_kernel((1, 1, factor)), shape=(1, 1, n), factor=(1, 1, factor))
    y = torch.zeros(DownsampledBlur(sampling).y_shape)
    y[..., 3] = 1
    seen = DownsampledBlur(sampling).A_adjoint(y)[0, 0, 0, 0]
    assert float(seen.sum()) == pytest.approx(1, abs=1e-5)
    assert float((seen * torch.arange(n)).sum()) == pytest.approx(3 * factor + (factor - 1) / 2, abs=1e-3)


def test_a_blurred_image_is_its_own_quick_estimate() -> None:
    physics = DownsampledBlur(Blur().sampling((2, 14, 11)))
    y = random_like(physics.y_shape, physics.dtype, "cpu", 0)
    torch.testing.assert_close(physics.A_dagger(y), y)


@pytest.mark.parametrize(("shape", "along_z"), [((1, 48, 48), False), ((24, 24, 24), True)])
def test_the_quick_estimate_of_a_smooth_image_is_near_it(shape: tuple[int, int, int], along_z: bool) -> None:
    axes = [torch.cos(2 * torch.pi * (torch.arange(n) + 0.5) / n) if n > 1 else torch.ones(1) for n in shape]
    x = (axes[0][:, None, None] * axes[1][:, None] * axes[2])[None, None]
    physics = DownsampledBlur(Blur(factor=3, along_z=along_z).sampling(shape))
    error = torch.linalg.vector_norm(physics.A_dagger(physics.A(x)) - x) / torch.linalg.vector_norm(x)
    assert float(error) < (0.2 if along_z else 0.03)
