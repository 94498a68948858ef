"""The suite of measured scans: masks, reference and rows; the scans themselves where their folder is at hand."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.events import Warned
from napari_unroll.pipeline.evaluate import EvaluationPlan, cases, evaluate
from napari_unroll.pipeline.held_out import Case
from napari_unroll.pipeline.measured import disc, lines, measured_cases, of_slice
from napari_unroll.pipeline.summary import score
from napari_unroll.scan.left_out import leave_out
from napari_unroll.scan.retrospective import combined
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
    parts = of_slice(tmp_path / "a.npz", lambda shape: disc(3.0, shape))
    made = parts.kept
    assert not (made.geometry.mask & parts.left_out.geometry.mask).any()
    assert (made.geometry.mask | parts.left_out.geometry.mask).all()
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
    assert {case.part for case in found} == {"measured"}
    undersampled = [case for case in found if "pyqmri" in case.data]
    assert [case.level for case in undersampled] == [5, 3, 10, 4]
    parts = undersampled[-1].make()
    scan = parts.kept
    assert 0.1 < parts.noise < 0.2
    assert scan.geometry.acceleration == pytest.approx(4.0)
    assert np.abs(scan.truth).max() > 0


@pytest.mark.parametrize("data", ["tooth, two rows", "brain slice of sigpy", "radial brain slice", "walnut, 10 views"])
def test_scans_without_a_truth_are_made_in_two_parts(shared_data, data):
    (case,) = (case for case in measured_cases(shared_data) if case.data == data)
    parts = case.make()
    assert parts.kept.grid == parts.left_out.grid
    if case.task != "multi-coil":
        assert parts.kept.geometry.n_views == case.level
        assert 1 <= parts.left_out.geometry.n_views < case.level
    elif data.endswith("sigpy"):
        assert parts.kept.geometry.acceleration == pytest.approx(case.level, rel=0.02)


def test_few_views_of_a_fan_foretell_others(shared_data):
    cases = [case for case in measured_cases(shared_data) if "HTC" in case.data]
    assert [case.level for case in cases] == [30, 50, 100]
    parts = cases[0].make()
    assert (parts.kept.geometry.n_views, parts.left_out.geometry.n_views) == (30, 40)
    assert not set(parts.kept.geometry.angles_rad) & set(parts.left_out.geometry.angles_rad)


def test_rows_without_a_truth_have_the_error_of_what_was_left_out(monkeypatch):
    scan = replace(tiny.cone(16, 12), truth=None)
    case = Case("cone-beam", 11, "tiny", "tiny", lambda: leave_out(scan), part="measured")
    monkeypatch.setattr("napari_unroll.pipeline.evaluate.cases", lambda plan: [case])
    *_, last = evaluate(EvaluationPlan(methods=("fdk", "cgls"), device="cpu"))
    fdk, cgls = last.result
    assert "psnr" not in fdk
    assert 0 < cgls["left_out"] < fdk["left_out"] < 1
    assert cgls["noise"].startswith("as of")


def test_a_scan_that_cannot_be_made_is_a_warning_and_the_others_go_on(monkeypatch):
    def broken():
        raise ScanError("The centre of k-space is missing.")

    found = [
        Case("multi-coil", 4, "broken", "broken", broken),
        Case("cone-beam", 6, "tiny", "tiny", lambda: tiny.cone(16, 6)),
    ]
    monkeypatch.setattr("napari_unroll.pipeline.evaluate.cases", lambda plan: found)
    *events, last = evaluate(EvaluationPlan(methods=("fdk",), device="cpu"))
    assert any(isinstance(e, Warned) and "centre of k-space" in e.text for e in events)
    assert [row["scan"] for row in last.result] == ["tiny"]


def test_a_measured_reference_has_both_figures_and_the_noise_of_what_was_hidden(tmp_path, monkeypatch):
    """The noise is what was put in, and no volume gets under it."""
    scan = tiny.multicoil((1, 64, 64))
    rng = np.random.default_rng(3)
    clean = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(scan.csm * scan.truth, axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    sigma = 0.03 * np.abs(scan.truth).max()
    noise = (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)) * sigma / 2**0.5
    np.savez(tmp_path / "a.npz", kspace=clean + noise, csm=scan.csm)
    made = of_slice(tmp_path / "a.npz", lambda shape: disc(2.0, shape))
    hidden = made.left_out.geometry.mask
    true = (np.abs(noise[:, hidden]) ** 2).sum() / (np.abs((clean + noise)[:, hidden]) ** 2).sum()
    case = Case("multi-coil", 2, "tiny", "tiny", lambda: replace(made, noise=made.noise or true), part="measured")
    monkeypatch.setattr("napari_unroll.pipeline.evaluate.cases", lambda plan: [case])
    *_, last = evaluate(EvaluationPlan(methods=("zero-filled", "tv-fista"), device="cpu"))
    zero, tv = last.result
    assert made.noise is None or made.noise == pytest.approx(true, rel=0.2)
    assert tv["psnr"] > zero["psnr"]
    assert 0.9 * true < tv["left_out"] < zero["left_out"]
    assert tv["left_out_noise"] > 0
    assert score(tv) > score(zero)
    assert tv["adapted"] is False
