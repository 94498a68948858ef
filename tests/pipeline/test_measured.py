"""The suite of measured scans: masks, reference and rows; the scans themselves where their folder is at hand."""

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.pipeline.evaluate import EvaluationPlan, cases
from napari_unroll.pipeline.measured import combined, disc, lines, measured_cases, of_slice
from tests.methods import tiny


def test_lines_are_whole_keep_the_middle_and_have_the_acceleration():
    mask = lines(4.0, (128, 20))
    assert (mask == mask[:, :1]).all()
    assert mask.sum() == mask.size / 4
    assert mask[56:73].all()


def test_the_reference_is_the_image_of_full_k_space(tmp_path):
    scan = tiny.multicoil((1, 64, 64))
    given = tiny.problem(scan)
    image = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(scan.csm * scan.truth, axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    np.testing.assert_allclose(combined(image, scan.csm), scan.truth, atol=1e-4 * np.abs(scan.truth).max())
    np.savez(tmp_path / "a.npz", kspace=image, csm=scan.csm)
    made = of_slice(tmp_path / "a.npz", lambda shape: disc(3.0, shape))
    assert made.geometry.acceleration == pytest.approx(3.0, rel=0.01)
    assert made.measurements.shape == given.scan.measurements.shape


def test_without_the_folder_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("NAPARI_UNROLL_DATA", raising=False)
    with pytest.raises(ParameterError, match="NAPARI_UNROLL_DATA"):
        cases(EvaluationPlan(suite="real"))
    monkeypatch.setenv("NAPARI_UNROLL_DATA", str(tmp_path))
    with pytest.raises(ParameterError, match="none of the suite"):
        cases(EvaluationPlan(suite="real"))


def test_the_measured_scans_are_made(shared_data):
    found = measured_cases(shared_data)
    assert [case.level for case in found] == [5, 3, 10, 4]
    scan = found[-1].make()
    assert scan.geometry.acceleration == pytest.approx(4.0)
    assert np.abs(scan.truth).max() > 0
