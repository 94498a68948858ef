"""Retrospective undersampling: masks of lines, and the reference that comes with them."""

import numpy as np
import pytest

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.retrospective import combined, line_mask, undersampled
from napari_unroll.scan.scan import Scan


def full_scan(csm=None):
    g = np.random.default_rng(0)
    y = (g.normal(size=(3, 1, 24, 20)) + 1j * g.normal(size=(3, 1, 24, 20))).astype(np.complex64)
    return Scan(
        measurements=y,
        geometry=CartesianSampling(mask=np.ones((1, 24, 20), bool), n_coils=3),
        grid=VolumeGrid(shape=(1, 24, 20)),
        csm=csm,
    )


def test_lines_hold_the_middle_and_have_the_acceleration():
    mask = line_mask((24, 20), 3, calibration=4, seed=1)
    assert (mask == mask[:, :1]).all()
    assert mask.sum() == mask.size / 3
    assert mask[10:15].all()
    assert line_mask((24, 20), 1, 4).all()
    with pytest.raises(ParameterError, match=r"acceleration between 1 and 4\.8"):
        line_mask((24, 20), 6, 4)


@pytest.mark.parametrize("given", [True, False])
def test_the_truth_is_the_combination_of_all_samples(given):
    csm = np.full((3, 1, 24, 20), 3**-0.5, np.complex64) if given else None
    scan = full_scan(csm)
    mask = line_mask((24, 20), 2, 8)[None]
    made = undersampled(scan, mask)
    assert made.geometry.acceleration == 2
    np.testing.assert_array_equal(made.measurements, np.where(mask, scan.measurements, 0))
    if given:
        np.testing.assert_array_equal(made.truth, combined(scan.measurements, csm))
    assert made.csm is csm
    with pytest.raises(ScanError, match="sampled in full"):
        undersampled(made, mask)
