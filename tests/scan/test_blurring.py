import deepinv.physics.functional as dF
import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.blurring import BlurredSampling, bicubic_kernel, gaussian_kernel
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.phantoms import leaves


def test_kernels_sum_to_one_and_are_symmetric() -> None:
    for kernel in (gaussian_kernel((1, 9, 9), 5), gaussian_kernel((4, 3, 9), 2), bicubic_kernel((1, 3, 4))):
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1, ::-1])


def test_the_gaussian_has_its_variance_where_it_is_not_cut() -> None:
    kernel = gaussian_kernel((1, 1, 41), 5)[0, 0]
    assert np.sum(kernel * (np.arange(41) - 20.0) ** 2) == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("factor", [2, 4])
def test_for_even_factors_the_bicubic_kernel_is_that_of_deepinv(factor: int) -> None:
    np.testing.assert_allclose(bicubic_kernel((1, factor, factor))[0], dF.bicubic_filter(factor)[0, 0], atol=1e-6)


def test_a_bicubic_kernel_of_an_odd_factor_is_centred_on_a_voxel() -> None:
    kernel = bicubic_kernel((1, 3, 3))
    assert kernel.shape == (1, 11, 11)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (0, 5, 5)


def test_measurements_are_the_grid_divided_by_the_factor() -> None:
    sampling = BlurredSampling(kernel=np.ones((1, 3, 3)), shape=(5, 9, 12), factor=(1, 3, 3))
    assert sampling.measurement_shape == (5, 3, 4)
    assert "factor=(1, 3, 3)" in repr(sampling)


def test_samplings_are_values() -> None:
    one, same = (BlurredSampling(kernel=gaussian_kernel((1, 3, 3), 1), shape=(1, 8, 8)) for _ in range(2))
    other = BlurredSampling(kernel=gaussian_kernel((1, 3, 3), 2), shape=(1, 8, 8))
    assert one == same
    assert one != other
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    with pytest.raises(ValueError, match="read-only"):
        one.kernel[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernel": np.ones((1, 9, 9))}, "larger than the image"),
        ({"kernel": np.ones((3, 3))}, r"axes \(z, y, x\)"),
        ({"kernel": np.zeros((1, 3, 3))}, "all zero"),
        ({"kernel": np.full((1, 3, 3), np.nan)}, "finite"),
        ({"factor": (1, 3, 3)}, "whole multiples"),
        ({"factor": (1, 0, 3)}, "whole numbers"),
    ],
)
def test_what_does_not_fit_is_said(change: dict, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        BlurredSampling(**{"kernel": np.ones((1, 3, 3)), "shape": (1, 8, 8), **change})


def test_leaves_are_the_same_image_at_every_resolution() -> None:
    coarse, fine = leaves((1, 32, 32), 7), leaves((1, 96, 96), 7)
    averaged = fine.reshape(1, 32, 3, 32, 3).mean((2, 4))
    assert np.corrcoef(coarse.ravel(), averaged.ravel())[0, 1] > 0.97
    assert coarse.dtype == np.float32
    assert coarse.min() >= 0
    assert coarse.max() <= 1


def test_leaves_have_sharp_edges_and_vary_with_the_seed() -> None:
    one, other = leaves((1, 64, 64), 0), leaves((1, 64, 64), 1)
    assert np.abs(np.diff(one[0])).max() > 0.2
    assert one.std() > 0.1
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
