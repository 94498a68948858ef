"""Files laid out as Calgary-Campinas publishes them, and read as its challenge does: a plain inverse FFT shows the head."""

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.preprocess_mri import centred_ifft
from tests.io import mri_samples as mri


def as_published(stored):
    """Root sum of squares (x, y, z) of an interleaved array, as the challenge's own baseline computes it."""
    kspace = stored[..., ::2] + 1j * stored[..., 1::2]
    return np.sqrt((np.abs(np.fft.ifft2(kspace, axes=(1, 2), norm="ortho")) ** 2).sum(-1))


@pytest.mark.parametrize("shape", [(6, 10, 20), (5, 9, 13)])
def test_the_picture_is_the_published_one(tmp_path, shape):
    stored = mri.write_calgary(tmp_path / "a.h5", shape)
    assert find_reader(tmp_path / "a.h5").name == "calgary-campinas"
    scan = read(tmp_path / "a.h5")
    assert scan.measurements.shape == (2, *shape)
    image = np.sqrt((np.abs(centred_ifft(scan.measurements)) ** 2).sum(0))
    np.testing.assert_allclose(image, as_published(stored), atol=1e-4 * image.max())


def test_the_last_kz_are_not_sampled(tmp_path):
    mri.write_calgary(tmp_path / "a.h5", (6, 10, 20))
    mask = read(tmp_path / "a.h5").geometry.mask
    assert mask[..., :17].all()
    assert not mask[..., 17:].any()


def test_a_slab_and_a_truth(tmp_path):
    stored = mri.write_calgary(tmp_path / "a.h5", (6, 10, 20))
    slab = read(tmp_path / "a.h5", first=2, planes=3)
    image = np.sqrt((np.abs(centred_ifft(slab.measurements)) ** 2).sum(0))
    np.testing.assert_allclose(image, as_published(stored)[2:5], atol=1e-4 * image.max())
    scan = read(tmp_path / "a.h5", undersample=2, calibration=4)
    assert (scan.geometry.mask == scan.geometry.mask[:1]).all()
    assert 2 <= scan.geometry.acceleration < 3
    assert scan.truth.shape == (6, 10, 20)
    for wrong in ({"first": 6}, {"first": 4, "planes": 3}):
        with pytest.raises(ParameterError, match="6 planes"):
            read(tmp_path / "a.h5", **wrong)
