"""Coarser and finer grids keep means, constants and kinds."""

import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.resample import block_mean, resized, shrunk

VOLUME = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)


@pytest.mark.parametrize("volume", [VOLUME, VOLUME * (1 + 2j), VOLUME.astype(np.uint16)])
def test_means_over_blocks(volume):
    mean = block_mean(volume, (1, 2, 3))
    assert mean[0, 0, 0] == pytest.approx(volume[:2, :2, :2].mean())
    assert mean.dtype == (np.complex64 if volume.dtype.kind == "c" else np.float32)
    with pytest.raises(ScanError, match="whole multiple"):
        block_mean(volume, (2, 3, 3))


def test_what_fills_no_block_is_cut_off():
    np.testing.assert_array_equal(shrunk(VOLUME, (1, 2, 4)), block_mean(VOLUME[:, :, :4], (2, 2, 1)))
    assert shrunk(VOLUME, (9, 9, 9)).ravel() == pytest.approx([VOLUME.mean()])


@pytest.mark.parametrize("shape", [(2, 4, 6), (1, 3, 2), (5, 8, 7)])
def test_resizing_keeps_constants_and_ramps(shape):
    np.testing.assert_allclose(resized(np.full((2, 4, 6), 3 + 1j, np.complex64), shape), 3 + 1j, rtol=1e-6)
    ramp = np.broadcast_to(np.linspace(0, 1, 24, dtype=np.float32), (2, 4, 24))
    assert resized(ramp, (2, 4, 12)).mean() == pytest.approx(0.5)
    assert resized(VOLUME, shape).shape == shape
