"""The Compare dock: references, numbers, grid, profiles."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unroll.gui.compare_dock import CompareDock
from napari_unroll.gui.session import session_of
from napari_unroll.gui.worker import Runner
from napari_unroll.pipeline.metrics import nrmse, psnr, ssim
from tests.gui.conftest import TIMEOUT_MS


@pytest.fixture
def dock(model, qtbot, cone_scan):
    session = session_of(model)
    session.set_scan(cone_scan)
    noisy = cone_scan.truth + 0.1 * np.random.default_rng(0).random(cone_scan.truth.shape).astype(np.float32)
    session.layers.show_volume("s · noisy", noisy, cone_scan.grid, role="result")
    session.layers.show_volume("s · half", 0.5 * cone_scan.truth, cone_scan.grid, role="result")
    made = CompareDock(model)
    qtbot.addWidget(made)
    yield made
    Runner.wait()


def test_the_truth_is_the_reference_and_results_are_listed(dock):
    assert dock.reference.currentText().endswith("truth")
    assert [dock.table.item(r, 0).text() for r in range(dock.table.rowCount())] == ["noisy", "half"]


def test_numbers_are_those_of_the_pipeline(dock, qtbot, cone_scan):
    dock.measure_button.click()
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass
    volume = dock.session.viewer.layers["s · noisy"].data
    assert dock.table.item(0, 1).text() == f"{psnr(volume, cone_scan.truth):.2f}"
    assert dock.table.item(0, 2).text() == f"{ssim(volume, cone_scan.truth):.3f}"


def measured(dock, qtbot):
    dock.measure_button.click()
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass


def test_differences_are_one_group_that_is_replaced(dock, qtbot, cone_scan):
    assert not dock.difference_button.isEnabled()
    measured(dock, qtbot)
    for _ in range(2):
        dock.difference_button.click()
    layers = dock.session.layers.ours("difference")
    assert [layer.name for layer in layers] == ["noisy − reference", "half − reference"]
    np.testing.assert_allclose(layers[1].data, -0.5 * cone_scan.truth, atol=1e-6)
    layers[0].contrast_limits = (-0.25, 0.25)
    assert tuple(layers[1].contrast_limits) == (-0.25, 0.25)
    assert dock.table.rowCount() == 2
    dock.session.set_scan(cone_scan)
    assert not dock.session.layers.ours("difference")


def test_the_table_is_saved(dock, qtbot, tmp_path, cone_scan):
    measured(dock, qtbot)
    dock.save_table(tmp_path / "t.csv")
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "reference,volume,PSNR (dB),SSIM,NRMSE"
    half = nrmse(0.5 * cone_scan.truth, cone_scan.truth)
    assert rows[2].endswith(f"s · half,{dock.table.item(1, 1).text()},{dock.table.item(1, 2).text()},{half:.3f}")


def test_shells_of_equal_shape_correlate(dock, qtbot):
    measured(dock, qtbot)
    np.testing.assert_allclose(dock.shells.points("half")[1], 1, atol=1e-4)


def test_only_ticked_volumes_are_shown_side_by_side(dock):
    dock.table.item(1, 0).setCheckState(Qt.CheckState.Unchecked)
    dock.side_button.click()
    viewer = dock.session.viewer
    shown = [layer for layer in viewer.layers if layer.visible]
    assert [layer.name for layer in shown] == [dock.reference.currentText(), "s · noisy"]
    assert np.allclose(shown[0].contrast_limits, shown[1].contrast_limits)
    assert viewer.canvas.grid.enabled
    shown[0].contrast_limits = (0.0, 0.5)
    assert tuple(shown[1].contrast_limits) == (0.0, 0.5)
    dock.single_button.click()
    assert not viewer.canvas.grid.enabled
    shown[0].contrast_limits = (0.0, 0.25)
    assert tuple(shown[1].contrast_limits) == (0.0, 0.5)


def test_profiles_follow_the_cursor(dock, cone_scan):
    grid = cone_scan.grid
    at = (8, 5, 3)
    dock.session.viewer.cursor.position = tuple(
        o + i * s for o, i, s in zip(grid.origin_mm, at, grid.spacing_mm, strict=True)
    )
    dock.profile.button.click()
    x, y = dock.profile.curve.points("truth")
    assert np.allclose(y, cone_scan.truth[8, 5])
    assert np.isclose(x[0], grid.origin_mm[2])
    assert np.allclose(dock.profile.curve.points("half")[1], 0.5 * cone_scan.truth[8, 5])
    assert dock.profile.where.text() == "through z 8, y 5"


def test_a_line_that_is_drawn_in_the_view_is_followed(dock, qtbot, cone_scan):
    dock.side_button.click()
    dock.profile.along.setCurrentText("drawn in the view")
    dock.profile.button.click()
    viewer, line = dock.session.viewer, dock.profile.line.layer
    assert not viewer.canvas.grid.enabled
    assert viewer.layers[-1] is line
    z = dock.session.layers.viewpoint.plane(cone_scan.grid)
    np.testing.assert_allclose(dock.profile.curve.points("truth")[1], cone_scan.truth[z, 8], rtol=1e-6)
    grid = cone_scan.grid
    column = np.array([[2, 5], [12, 5]])
    line.data = [np.array(grid.origin_mm[1:]) + column * grid.spacing_mm[1:]]
    qtbot.waitUntil(lambda: len(dock.profile.curve.points("truth")[0]) == 11, timeout=TIMEOUT_MS)
    x, y = dock.profile.curve.points("truth")
    np.testing.assert_allclose(y, cone_scan.truth[z, 2:13, 5], rtol=1e-6)
    np.testing.assert_allclose(x, grid.spacing_mm[1] * np.arange(11), rtol=1e-6)
    np.testing.assert_allclose(dock.profile.curve.points("half")[1], 0.5 * np.array(y), rtol=1e-6)
    dock.session.layers.viewpoint.go_to(grid, (z + 3, 8, 8))
    qtbot.waitUntil(lambda: f"z {z + 3};" in dock.profile.where.text(), timeout=TIMEOUT_MS)
    np.testing.assert_allclose(dock.profile.curve.points("truth")[1], cone_scan.truth[z + 3, 2:13, 5], rtol=1e-6)
    dock.profile.along.setCurrentIndex(0)
    assert line not in viewer.layers


def test_magnitudes_are_measured_against_magnitudes(model, qtbot, mri_scan):
    session = session_of(model)
    session.set_scan(mri_scan)
    session.layers.show_volume("s · other", 1j * mri_scan.truth, mri_scan.grid, role="result")
    made = CompareDock(model)
    qtbot.addWidget(made)
    assert made.reference.currentText().endswith("truth")
    assert [made.table.item(r, 0).text() for r in range(made.table.rowCount())] == ["other"]
    measured(made, qtbot)
    assert made.table.item(0, 3).text() == "0.000"


def test_a_mirrored_reference_is_a_sentence(dock):
    dock._reference().scale = (-1.0, 1.0, 1.0)
    dock.draw_profile()
    assert "Voxel sizes" in dock.profile.where.text()


def test_nothing_ticked_is_a_sentence(dock):
    for row in range(2):
        dock.table.item(row, 0).setCheckState(Qt.CheckState.Unchecked)
    dock.measure_button.click()
    assert dock.message.kind == "warning"


def test_removed_layers_leave_the_table(dock):
    dock.session.viewer.layers.remove("s · noisy")
    assert [dock.table.item(r, 0).text() for r in range(dock.table.rowCount())] == ["half"]
