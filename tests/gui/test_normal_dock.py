"""The Normal operator dock: fit live, cancel, maps, comparison, patch, figure."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtGui import QImage

from napari_unroll.gui.normal_dock import NormalDock
from napari_unroll.gui.normal_layers import COMPARISON
from napari_unroll.gui.session import session_of
from napari_unroll.gui.worker import Runner
from tests.gui.conftest import TIMEOUT_MS


@pytest.fixture
def dock(model, qtbot):
    made = NormalDock(model)
    qtbot.addWidget(made)
    made.form.fields["n_probes"].value = 4
    made.form.fields["n_test"].value = 1
    yield made
    Runner.wait()


def ended(qtbot, dock):
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    return blocker.args[0]


@pytest.fixture
def fitted(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.fit_button.click()
    ended(qtbot, dock)
    assert dock.fitted is not None, dock.message.text()
    return dock


def names(dock):
    return [layer.name for layer in dock.session.viewer.layers]


def test_without_a_scan_it_says_so(dock):
    dock.fit_button.click()
    assert "no scan" in dock.message.text()
    assert not dock.compare_button.isEnabled()


def test_fit_shows_error_and_fills_the_table(fitted):
    assert fitted.session.factors is fitted.fitted.factors
    assert fitted.fits_box.table.rowCount() == 1
    assert fitted.fits_box.table.item(0, 1).text().endswith("%")
    assert fitted.curve.points("images")[1]
    assert fitted.maps.profile.points("|λ| / max")[1]
    assert [fitted.fits_box.errors.text().count(word) for word in ("final image", "image-like", "white noise")] == [
        1,
        1,
        1,
    ]
    assert fitted.message.text() == "Fit completed."


def test_what_was_said_of_a_fit_leaves_when_something_else_is_done(fitted, qtbot):
    fitted.compare_button.click()
    assert fitted.message.text() == ""
    ended(qtbot, fitted)
    assert fitted.message.text() == "Comparison completed."


def test_a_second_fit_comes_from_the_cache_and_compares_forms(fitted, qtbot):
    live = fitted.curve.points("images")
    fitted.fit_button.click()
    ended(qtbot, fitted)
    assert fitted.curve.points("images") == live
    fitted.form.fields["form"].value = "dc"
    fitted.fit_button.click()
    ended(qtbot, fitted)
    assert [fitted.fits_box.table.item(r, 0).text() for r in range(3)] == ["dcd", "dcd", "dc"]


def test_maps_become_layers_over_the_volume(fitted):
    for button, name in zip(
        (fitted.maps.weight, fitted.maps.response, fitted.maps.kernel),
        ("d (dcd)", "|λ| (dcd), log10", "kernel h (dcd), log10"),
        strict=True,
    ):
        button.click()
        layer = fitted.session.viewer.layers[name]
        assert np.isfinite(layer.data).all()
        assert layer.visible
        half = 0.5 * np.array(fitted.session.scan.grid.size_mm)
        assert (np.abs(layer.extent.world) <= half + 1e-6).all()


@pytest.mark.parametrize("probe", ["Gaussian noise", "Impulse at the cursor", "walnut, cone beam, 12 views · truth"])
def test_exact_and_approximated_side_by_side(fitted, qtbot, probe):
    fitted.probe.setCurrentText(probe)
    assert fitted.probe.currentText() == probe
    fitted.compare_button.click()
    ended(qtbot, fitted)
    exact, approximated, gap = (fitted.session.viewer.layers[n].data for n in ("N x", "Ñ x (dcd)", "N x − Ñ x (dcd)"))
    assert np.allclose(exact - approximated, gap, atol=1e-4 * np.abs(exact).max())
    error = np.linalg.norm(gap) / np.linalg.norm(exact)
    assert f"{100 * error:.3g} %" in fitted.numbers.text()
    assert fitted.session.viewer.canvas.grid.enabled
    assert [layer.visible for layer in fitted.layers._shown] == [True] * 3
    fitted.side.setChecked(False)
    assert not fitted.session.viewer.canvas.grid.enabled
    assert fitted.session.viewer.layers["N x"].visible


def test_a_comparison_begins_with_a_phantom_and_replaces_the_last(fitted, qtbot):
    assert fitted.probe.currentText() == "Phantom"
    fitted.compare_button.click()
    ended(qtbot, fitted)
    fitted._on_compared(replace(fitted.compared, form="cd"))
    layers = fitted.session.layers.ours(COMPARISON)
    assert [layer.name for layer in layers] == [
        "relative error in space (cd)", "N x − Ñ x (cd)", "Ñ x (cd)", "N x",
    ]  # fmt: skip
    assert [layer.name_overlay.visible for layer in layers] == [False, True, True, True]


def test_the_impulse_is_at_the_cursor(fitted, qtbot):
    grid = fitted.session.scan.grid
    fitted.session.viewer.cursor.position = tuple(
        o + i * s for o, i, s in zip(grid.origin_mm, (3, 9, 5), grid.spacing_mm, strict=True)
    )
    fitted.probe.setCurrentText("Impulse at the cursor")
    fitted.compare_button.click()
    ended(qtbot, fitted)
    assert tuple(np.argwhere(fitted.compared.pair.x)[0]) == (3, 9, 5)


def test_patch_and_whole_agree(fitted, qtbot):
    fitted.patch_box.edge.setValue(6)
    fitted.patch_box.button.click()
    finished = ended(qtbot, fitted)
    assert finished.result.error_to_whole < 1e-5
    assert "6 × 6 × 6" in fitted.patch_box.numbers.text()


def test_effect_on_a_reconstruction(fitted, qtbot):
    fitted.effect_button.click()
    ended(qtbot, fitted)
    assert "changes the image by" in fitted.effect.text()


def test_mri_compares_exactly(dock, qtbot, mri_scan):
    dock.session.set_scan(mri_scan)
    dock.fit_button.click()
    ended(qtbot, dock)
    dock.compare_button.click()
    finished = ended(qtbot, dock)
    assert finished.result.pair.error < 1e-4
    assert "N x" in names(dock)


def test_cancel_leaves_the_dock_ready(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.form.fields["n_probes"].value = 4096
    dock.form.fields["early_stop"].value = False
    dock.fit_button.click()
    run = dock.session.runner.run
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS):
        pass
    with qtbot.waitSignal(run.finished, timeout=TIMEOUT_MS):
        dock.cancel_button.click()
    assert dock.fitted is None
    assert dock.fit_button.isEnabled()
    assert not dock.cancel_button.isEnabled()


def test_wrong_options_are_a_sentence(dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.form.fields["support"].value = 1
    dock.fit_button.click()
    assert dock.message.kind == "error"
    assert not dock.session.runner.busy


def test_another_scan_forgets_the_fit(fitted, mri_scan):
    fitted.maps.weight.click()
    fitted.session.set_scan(mri_scan)
    assert fitted.fitted is None
    assert fitted.fits_box.table.rowCount() == 0
    assert not fitted.session.layers.ours("normal")


def test_the_figure_is_a_picture(viewer, qtbot, cone_scan, tmp_path):
    dock = NormalDock(viewer)
    viewer.window.add_dock_widget(dock)
    session_of(viewer).set_scan(cone_scan)
    dock.form.fields["n_probes"].value = 2
    dock.fit_button.click()
    ended(qtbot, dock)
    path = tmp_path / "figure.png"
    dock.export_figure(path)
    assert not QImage(str(path)).isNull()
    dock.export_figure(tmp_path / "missing" / "figure.png")
    assert dock.message.kind == "error"


def test_the_slider_shows_what_the_approximation_does_in_a_drawn_region(fitted, qtbot):
    fitted.form.fields["form"].value = "dc"
    fitted.fit_button.click()
    ended(qtbot, fitted)
    fitted.compare_button.click()
    ended(qtbot, fitted)
    with qtbot.waitSignal(fitted.region.requested):
        fitted.region.draw_button.click()
    ended(qtbot, fitted)
    assert [fitted.region.fits.itemText(k) for k in range(2)] == ["1: dcd", "2: dc"]
    assert not fitted.session.viewer.canvas.grid.enabled
    assert names(fitted)[-2:] == ["N x, Ñ x in the patch", "region"]
    assert fitted.session.viewer.layers.selection.active.name == "region"
    found, before = fitted.region.found, fitted.session.viewer.layers["N x, Ñ x in the patch"].data.copy()
    np.testing.assert_allclose(before, found.volumes[1], rtol=1e-6)
    with qtbot.waitSignal(fitted.region.requested):
        fitted.region.edge.setValue(2)
    ended(qtbot, fitted)
    assert max(fitted.region.found.errors) < max(found.errors)
    assert "2 × 2 × 2" in fitted.region.numbers.text()
    fitted.region.fits.setCurrentIndex(0)
    shown = fitted.session.viewer.layers["N x, Ñ x in the patch"].data
    np.testing.assert_allclose(shown, fitted.region.found.volumes[0], rtol=1e-6)
    layer = fitted.rectangle.layer
    assert len(layer._data_view.displayed_vertices) > 0, "the rectangle lies in the plane that is shown"
    with qtbot.waitSignal(fitted.region.requested):
        layer.data = [np.asarray(layer.data[0]) - [3 * fitted.session.scan.grid.spacing_mm[1], 0]]
    ended(qtbot, fitted)
    assert fitted.region.found.box != found.box
    grid, (_, y, x) = fitted.session.scan.grid, fitted.region.found.region
    with qtbot.waitSignal(fitted.region.requested):
        fitted.session.layers.viewpoint.go_to(grid, (3, 8, 8))
    ended(qtbot, fitted)
    assert fitted.region.found.region == (slice(3, 4), y, x), "it goes with the plane that is shown"
    fitted.fit_button.click()
    fit = fitted.session.runner.run
    fitted.look_at_region()
    assert fitted.session.runner.run is fit, "a fit is not given up for it"
    ended(qtbot, fitted)


def test_the_slider_of_virtual_coils_shows_what_they_do_in_the_region(dock, qtbot, mri_scan):
    dock.session.set_scan(mri_scan)
    dock.fit_button.click()
    ended(qtbot, dock)
    dock.compare_button.click()
    ended(qtbot, dock)
    dock.region.coils.setValue(1)
    with qtbot.waitSignal(dock.region.requested):
        dock.region.draw_button.click()
    ended(qtbot, dock)
    assert not dock.region.coils_row.isHidden()
    errors = []
    for k in (2, 3, 4):
        with qtbot.waitSignal(dock.region.requested):
            dock.region.coils.setValue(k)
        ended(qtbot, dock)
        assert dock.region.fits.currentText() == "virtual coils"
        assert f"virtual coils (K = {k})" in dock.region.numbers.text()
        shown = dock.session.viewer.layers["N x, Ñ x in the patch"].data
        np.testing.assert_allclose(shown, np.abs(dock.region.found.volumes[-1]), rtol=1e-6)
        errors.append(dock.region.found.errors[-1])
    assert errors[0] > errors[1] > 10 * errors[2], "all coils are exact"


def test_other_scans_have_no_coils(fitted):
    assert fitted.region.n_virtual == 0
    assert fitted.region.coils_row.isHidden()


def test_a_region_without_a_comparison_says_what_to_do(fitted, qtbot):
    with qtbot.waitSignal(fitted.region.requested):
        fitted.region.draw_button.click()
    assert "N x against" in fitted.message.text()
