import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.imaging import VolumeBlur, VolumeInpainting
from napari_unroll.physics.laws import adjoint_error, linearity_error, random_like
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
