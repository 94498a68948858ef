import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.pipeline.metrics import difference, fsc, line_profile, nrmse, psnr, ssim


def volume(shape=(12, 13, 14)):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_psnr_is_its_formula():
    truth = volume()
    assert psnr(truth + 0.1 * truth.max(), truth) == pytest.approx(20, abs=1e-3)
    assert psnr(truth, truth) == float("inf")


def test_psnr_agrees_with_deepinv():
    import torch
    from deepinv.loss.metric import PSNR

    truth = volume() / volume().max()
    x = truth + 0.05 * np.random.default_rng(1).standard_normal(truth.shape).astype(np.float32)
    theirs = PSNR(max_pixel=1.0)(torch.tensor(x)[None, None], torch.tensor(truth)[None, None])
    assert psnr(x, truth) == pytest.approx(float(theirs), abs=1e-3)


@pytest.mark.parametrize("shape", [(12, 13, 14), (3, 16, 16), (1, 16, 16)])
def test_ssim_is_one_for_equal_volumes_only(shape):
    truth = volume(shape)
    assert ssim(truth, truth) == pytest.approx(1)
    assert ssim(truth[:, ::-1].copy(), truth) < 0.5


def test_complex_volumes_are_compared_by_magnitude():
    truth = volume().astype(np.complex64)
    turned = truth * np.exp(1j * 0.7).astype(np.complex64)
    assert psnr(turned, truth) > 100
    assert ssim(turned, truth) == pytest.approx(1)


def test_shapes_must_agree():
    with pytest.raises(ParameterError, match="cannot be compared"):
        psnr(volume((4, 4, 4)), volume((4, 4, 5)))


def test_nrmse_agrees_with_scikit_image():
    from skimage.metrics import normalized_root_mse

    truth = volume()
    x = truth + 0.1 * np.random.default_rng(1).standard_normal(truth.shape).astype(np.float32)
    assert nrmse(x, truth) == pytest.approx(normalized_root_mse(truth, x, normalization="euclidean"), rel=1e-5)
    assert nrmse(2 * truth, truth) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(12, 13, 14), (1, 16, 18)])
def test_shells_correlate_by_what_is_common(shape):
    truth = volume(shape)
    frequencies, same = fsc(3 * truth, truth, (2.0, 1.0, 1.0))
    np.testing.assert_allclose(same, 1, atol=1e-5)
    assert frequencies[-1] <= (0.25 if shape[0] > 1 else 0.5)
    _, other = fsc(np.random.default_rng(7).random(shape), truth, (2.0, 1.0, 1.0))
    assert np.abs(other[2:]).mean() < 0.5 < other[0]


def test_shells_are_those_of_the_whole_spectrum():
    x, truth = volume((6, 8, 8)), volume((6, 8, 8))[::-1]
    frequencies, found = fsc(x, truth, (1.0, 1.0, 1.0))
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in x.shape), indexing="ij"))
    shell = np.rint(np.linalg.norm(k, axis=0) / frequencies[1])
    f, g = (np.fft.fftn(v) for v in (x, truth))
    for i in range(len(found)):
        a, b = f[shell == i], g[shell == i]
        assert found[i] == pytest.approx(np.vdot(b, a).real / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-4)


def test_a_single_voxel_has_no_shells():
    assert fsc(np.ones((1, 1, 1)), np.ones((1, 1, 1)), (1.0, 1.0, 1.0))[0].size == 0


def test_differences_are_between_magnitudes():
    truth = volume() * np.exp(1j)
    np.testing.assert_allclose(difference(truth * 1j, truth), 0, atol=1e-6)


def test_where_no_window_fits_there_is_no_similarity():
    assert np.isnan(ssim(np.ones((3, 8, 20), np.float32), np.ones((3, 8, 20), np.float32)))


def test_a_profile_is_exact_where_the_plane_is_linear():
    y, x = np.mgrid[:9.0, :11.0]
    position, values = line_profile(2 * y + 3 * x, np.array([[1.0, 0.5], [7.0, 8.5]]), (0.5, 2.0))
    share = position / position[-1]
    np.testing.assert_allclose(values, 2 * (1 + 6 * share) + 3 * (0.5 + 8 * share))
    assert position[-1] == pytest.approx(np.hypot(6 * 0.5, 8 * 2.0))
    assert len(position) == 9
    assert np.isnan(line_profile(y, np.array([[0.0, -3.0], [0.0, 4.0]]), (1.0, 1.0))[1][:2]).all()


def test_a_profile_of_a_point_is_one_value():
    position, values = line_profile(np.ones((3, 3)), np.array([[1.0, 1.0], [1.0, 1.0]]), (1.0, 1.0))
    assert (position.tolist(), values.tolist()) == ([0.0], [1.0])
