"""The closed form of blurred and downsampled images is AᴴA, on the whole image and on patches, and so it is positive."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.normal import storage
from napari_unroll.normal.choice import choose_form
from napari_unroll.normal.fit import FitOptions, fit, fit_now
from napari_unroll.normal.one_convolution import mean_convolution
from napari_unroll.normal.positivity import is_positive
from napari_unroll.normal.precondition import regularised_preconditioner, resolvent_preconditioner
from napari_unroll.physics.imaging import DownsampledBlur, VolumeBlur, VolumeInpainting
from napari_unroll.physics.laws import random_like
from napari_unroll.scan.blurring import Blur
from napari_unroll.scan.geometry import VolumeGrid
from tests.normal.toys import dense, dense_normal, gap

BOX = (slice(0, 1), slice(2, 9), slice(4, 13))


def blur():
    return DownsampledBlur(Blur().sampling((1, 11, 14)))


def downsampled():
    return DownsampledBlur(Blur(factor=3).sampling((1, 12, 15)))


def stack():
    return DownsampledBlur(Blur(factor=3).sampling((3, 12, 15)))


def solid():
    return DownsampledBlur(Blur(factor=2, along_z=True).sampling((8, 8, 8)))


every = pytest.mark.parametrize("make", [blur, downsampled, stack, solid])


@every
def test_it_is_the_normal_operator(make):
    physics = make()
    factors = fit_now(physics)
    for seed in range(3):
        x = random_like((2, *physics.x_shape[1:]), physics.dtype, "cpu", seed)
        assert gap(physics.normal(x), factors.apply(x)) < 1e-5


@every
def test_on_patches_it_is_the_restricted_normal_operator(make):
    physics = make()
    n = physics.grid.shape
    boxes = [tuple(slice(a, a + m // 2 + 1) for a, m in zip(start, n, strict=True)) for start in ((0, 1, 2), (0, 3, 3))]
    u = random_like((2, 1, *(s.stop - s.start for s in boxes[0])), physics.dtype, "cpu", 0)
    found = fit_now(physics).restrict(boxes).apply(u)
    for box, given, got in zip(boxes, u, found, strict=True):
        assert gap(physics.restrict(box).normal(given[None])[0], got) < 1e-5


def test_super_resolution_takes_nine_convolutions_and_one_errs():
    factors = fit_now(downsampled())
    assert factors.kernel.shape[0] == 9
    assert len(factors.terms) == 9
    exact = dense_normal(downsampled())
    assert gap(exact, dense(factors.apply, factors.shape)) < 1e-5
    assert gap(exact, dense(mean_convolution(factors).apply, factors.shape)) > 0.05


def test_a_blur_is_one_convolution_without_weights():
    factors = fit_now(blur())
    assert factors.kernel.shape == (1, 1, 11, 14)
    assert factors.left is factors.right is None


def test_axes_without_blur_need_no_transform():
    assert fit_now(stack()).kernel.shape == (9, 1, 12, 15)


@pytest.mark.parametrize("make", [blur, downsampled])
def test_it_is_positive_on_the_whole_image_and_on_patches(make):
    factors = fit_now(make())
    assert is_positive(factors)
    assert is_positive(factors, BOX)
    for matrix in (
        dense(factors.apply, factors.shape),
        dense(factors.restrict(BOX).apply, tuple(s.stop - s.start for s in BOX)),
    ):
        assert gap(matrix, matrix.T) < 1e-5
        values = torch.linalg.eigvalsh(matrix.double())
        assert values.min() > -1e-5 * values.max()


@pytest.mark.parametrize("make", [blur, downsampled])
def test_its_inverses_are_positive_definite(make):
    factors = fit_now(make())
    for inverse in (regularised_preconditioner(factors, 0.1), resolvent_preconditioner(factors, 10.0)):
        matrix = dense(inverse, factors.shape).double()
        assert gap(matrix, matrix.T) < 1e-4
        assert torch.linalg.eigvalsh(matrix).min() > 0


def test_for_a_blur_the_resolvent_is_exact():
    physics = blur()
    x = random_like(physics.x_shape, physics.dtype, "cpu", 0)
    solved = resolvent_preconditioner(fit_now(physics), 10.0)(x + 10 * physics.normal(x))
    assert gap(x, solved) < 1e-4


def test_factors_survive_their_file(tmp_path):
    factors = fit_now(downsampled())
    storage.save(factors, tmp_path / "factors.safetensors")
    again = storage.load(tmp_path / "factors.safetensors")
    x = random_like((1, 1, *factors.shape), torch.float32, "cpu", 0)
    torch.testing.assert_close(again.apply(x), factors.apply(x))
    assert again.exact
    assert is_positive(again)


def test_auto_chooses_it_for_images_and_nothing_else_may_have_it():
    grid = VolumeGrid(shape=(4, 5, 6))
    assert choose_form(downsampled(), "auto") == "phases"
    assert choose_form(VolumeBlur(torch.ones(2, 2, 2), grid), "auto") == "phases"
    with pytest.raises(ParameterError, match="super-resolution"):
        choose_form(VolumeInpainting(torch.ones(4, 5, 6), grid), "phases")


def test_the_fit_counts_one_application_per_phase_and_reports_errors():
    *_, last = fit(DownsampledBlur(Blur(size=5, variance=2.0).sampling((1, 16, 16))), FitOptions(n_test=1))
    assert last.result.info["operator_calls"] == 1
    assert last.result.info["error_image"] < 1e-5
    *_, last = fit(downsampled(), FitOptions(n_test=1))
    assert last.result.info["operator_calls"] == 9
    assert last.result.info["error_gaussian"] < 1e-5
