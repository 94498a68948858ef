"""The Scan dock in a viewer: load, options, layers, bad input, checks."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QApplication, QPushButton

from napari_unroll.errors import ScanError
from napari_unroll.gui import jobs
from napari_unroll.gui.facts import facts_html
from napari_unroll.gui.from_layer import LayerGeometry, LayerImage, image_grid, scan_from_array, scan_from_image
from napari_unroll.gui.layer_box import IMAGE
from napari_unroll.gui.reconstruct_dock import ReconstructDock
from napari_unroll.gui.scan_dock import ScanDock, VolumeChoice
from napari_unroll.gui.worker import Runner
from napari_unroll.interrupt import check
from napari_unroll.io import registry
from napari_unroll.io.scan_file import write_scan
from napari_unroll.io.writers import write
from napari_unroll.physics.samples import sample_deblur
from napari_unroll.pipeline.edits import Edits, edited, edits_of, shifted
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.gui.conftest import TIMEOUT_MS
from tests.io import samples


@pytest.fixture
def dock(model, qtbot):
    made = ScanDock(model)
    qtbot.addWidget(made)
    yield made
    Runner.wait()


def ended(qtbot, dock):
    """Wait for the end of what runs."""
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass


@pytest.mark.parametrize("name", list(jobs.SAMPLES))
def test_sample_data_loads_with_layers_and_facts(qtbot, dock, name):
    dock.open_sample(name)
    ended(qtbot, dock)
    scan = dock.session.scan
    assert scan.truth is not None
    facts = dock.facts.text().replace("&nbsp;", " ")
    assert scan.name in facts
    assert ("±" in facts) == (scan.modality != "image")  # the noise, with its standard error
    assert scan.provenance.source.startswith("sample:")
    assert np.ptp(dock.session.viewer.layers[-1].data) > 0


@pytest.mark.parametrize("work", ["sample", "load"])
def test_loading_shows_itself_and_can_be_cancelled(qtbot, dock, tmp_path, monkeypatch, work):
    def endless(*_, **__):
        while True:
            check()

    np.savez(tmp_path / "views.npz", projections=np.ones((12, 6, 10), np.float32), angles=np.arange(12.0))
    with monkeypatch.context() as patched:
        patched.setattr(jobs.sources, "sample", endless)
        patched.setattr(jobs.registry, "read", endless)
        assert dock.running.isHidden()
        dock.open_sample(next(iter(jobs.SAMPLES))) if work == "sample" else dock.open_path(tmp_path / "views.npz")
        assert not dock.running.isHidden()
        with qtbot.waitSignal(dock.session.runner.run.event, timeout=TIMEOUT_MS):
            pass
        dock.running.cancel.click()
    assert dock.running.isHidden()
    assert "cancelled" in dock.message.text()
    assert dock.session.scan is None
    dock.open_sample(next(iter(jobs.SAMPLES)))
    ended(qtbot, dock)
    assert dock.session.scan is not None


def test_a_file_is_read_and_read_again_with_options(qtbot, dock, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "views.npz"
    angles = np.linspace(0, np.pi, 12, endpoint=False)
    np.savez(path, projections=rng.random((12, 6, 10), dtype=np.float32), angles=angles)
    dock.open_path(path)
    ended(qtbot, dock)
    assert dock.session.scan is not None, dock.message.text()
    assert dock.options is not None
    dock.options.fields["view_step"].value = 2
    dock.again.click()
    ended(qtbot, dock)
    assert dock.session.scan.measurements.shape[0] == 6


def test_a_bad_file_is_one_sentence_and_nothing_is_lost(qtbot, dock, tmp_path, cone_scan):
    dock.session.set_scan(cone_scan)
    path = tmp_path / "broken.h5"
    path.write_bytes(b"")
    dock.open_path(path)
    assert dock.message.kind == "error"
    assert "broken.h5" in dock.message.text()
    assert dock.session.scan is cone_scan


def test_corrections_are_previewed_and_applied(qtbot, dock, tmp_path):
    rng = np.random.default_rng(0)
    views = rng.random((12, 6, 10), dtype=np.float32)
    views[:, :, 4] += 3
    np.savez(tmp_path / "views.npz", line_integrals=views, angles_deg=np.linspace(0, 180, 12))
    dock.open_path(tmp_path / "views.npz")
    ended(qtbot, dock)
    form = dock.options
    form.fields["stripes"].value = "offset"
    form.preview.click()
    ended(qtbot, dock)
    before, after, _ = form.pictures.images.values()
    assert np.abs(before - dock.session.scan.measurements[:, 3]).max() == 0
    assert after[:, 4].mean() < before[:, 4].mean() - 2
    dock.read_again()
    ended(qtbot, dock)
    assert ("stripes", "offset") in dock.session.scan.provenance.options
    np.testing.assert_array_equal(dock.session.scan.measurements[:, 3], after)


def test_what_a_correction_lacks_is_pointed_at(qtbot, dock, tmp_path):
    np.savez(tmp_path / "views.npz", line_integrals=np.ones((12, 6, 10), np.float32), angles_deg=np.arange(12.0))
    dock.open_path(tmp_path / "views.npz")
    ended(qtbot, dock)
    dock.options.fields["delta_beta"].value = 100
    dock.options.preview.click()
    ended(qtbot, dock)
    assert "energy_kev" in dock.message.text()
    assert dock.options.fold.button.isChecked()


def test_a_missing_angle_opens_the_options(qtbot, dock, tmp_path):
    path = tmp_path / "views.npy"
    np.save(path, np.random.default_rng(0).random((12, 6, 10)).astype(np.float32))
    dock.open_path(path)
    ended(qtbot, dock)
    assert dock.message.kind == "error"
    assert "angles" in dock.message.text()
    assert dock.options_fold.button.isChecked()


def test_of_a_large_scan_it_is_asked_how_much_is_read(qtbot, dock, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "LARGE_BYTES", 10_000)
    dock.open_path(samples.write_dxchange(tmp_path / "views.h5"))
    ended(qtbot, dock)
    assert dock.session.scan is None
    assert "13 of 13 views of 6 × 32 pixels takes" in dock.message.text()
    assert dock.options_fold.button.isChecked()
    dock.options.fields["view_step"].value = 3
    dock.options.fields["rows"].value = "1:4"
    dock.again.click()
    ended(qtbot, dock)
    assert dock.session.scan.measurements.shape == (5, 4, 32)


def test_a_file_can_be_dropped(qtbot, dock, tmp_path, cone_scan):
    path = tmp_path / "scan.h5"
    write_scan(path, cone_scan)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    dock.dropEvent(event)
    ended(qtbot, dock)
    assert dock.session.scan.geometry == cone_scan.geometry


def test_a_layer_becomes_a_scan(dock):
    dock.session.viewer.add_image(np.random.default_rng(0).random((9, 6, 10)).astype(np.float32), name="sinograms")
    assert dock.layer_box.layer.currentText() == "sinograms"
    dock.layer_box.projections.fields["beam"].value = "cone"
    dock.layer_box.use_button.click()
    assert isinstance(dock.session.scan.geometry, ConeBeam)
    assert dock.session.scan.name == "sinograms"


@pytest.mark.parametrize("shape", [(20, 25), (3, 18, 20)])
def test_an_image_layer_is_blurred_and_reconstructed(qtbot, dock, shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    dock.session.viewer.add_image(image, name="photograph", scale=[0.5] * len(shape), translate=[2.0] * len(shape))
    dock.layer_box.kind.setCurrentText(IMAGE)
    assert dock.layer_box.projections.isHidden()
    dock.layer_box.image.fields["factor"].value = 3
    dock.layer_box.use_button.click()
    ended(qtbot, dock)
    scan = dock.session.scan
    assert scan.geometry.factor == (1, 3, 3)
    assert scan.grid.shape == (shape[0] if len(shape) == 3 else 1, 18, shape[-1] - shape[-1] % 3)
    np.testing.assert_array_equal(scan.truth, image.reshape(-1, *shape[-2:])[:, :18, : scan.grid.shape[2]])
    assert scan.grid.origin_mm[1:] == pytest.approx((2.0, 2.0))
    assert scan.grid.spacing_mm[1:] == (0.5, 0.5)


def test_a_measured_image_layer_is_taken_as_it_is(qtbot, dock):
    image = np.random.default_rng(0).random((12, 15))
    dock.session.viewer.add_image(image, name="microscope")
    dock.layer_box.kind.setCurrentText(IMAGE)
    dock.layer_box.image.fields["holds"].value = "measurement"
    dock.layer_box.use_button.click()
    ended(qtbot, dock)
    assert dock.session.scan.truth is None
    assert dock.session.scan.geometry.kernel.shape == (1, 9, 9)
    np.testing.assert_allclose(dock.session.scan.measurements[0], image, rtol=1e-6)


def test_colours_become_grey_and_small_images_are_a_sentence(qtbot, dock):
    dock.session.viewer.add_image(np.ones((12, 12, 3), np.float32), name="rgb", rgb=True)
    dock.layer_box.kind.setCurrentText(IMAGE)
    dock.layer_box.use_button.click()
    ended(qtbot, dock)
    np.testing.assert_allclose(dock.session.scan.truth, 1, rtol=1e-5)
    dock.session.viewer.add_image(np.ones((5, 5), np.float32), name="tiny")
    dock.layer_box.layer.setCurrentText("tiny")
    dock.layer_box.use_button.click()
    ended(qtbot, dock)
    assert dock.message.kind == "error"
    assert "larger than the image" in dock.message.text()


def test_a_measured_image_lies_where_its_layer_does():
    grid = image_grid((6, 5), (1.5, 1.5), (10.0, 20.0))
    scan = scan_from_image(np.ones((6, 5)), grid, LayerImage(holds="measurement", factor=3))
    assert scan.grid.shape == (1, 18, 15)
    assert scan.grid.size_mm == pytest.approx(grid.size_mm)
    assert scan.grid.center_mm == pytest.approx(grid.center_mm)
    with pytest.raises(ScanError, match="complex"):
        scan_from_image(np.ones((6, 5), complex), grid, LayerImage())


def test_distances_in_the_wrong_order_are_a_sentence(dock):
    dock.session.viewer.add_image(np.ones((9, 6, 10), np.float32), name="sinograms")
    dock.layer_box.projections.fields["beam"].value = "cone"
    dock.layer_box.projections.fields["source_origin_mm"].value = 900
    dock.layer_box.use_button.click()
    assert dock.message.kind == "error"
    assert "exchanged" in dock.message.text()


def test_layer_angles_cover_the_range():
    data = np.ones((4, 3, 5), np.float32)
    scan = scan_from_array(data, LayerGeometry(angle_range=360, axis_px=1.5, pixel_mm=2.0))
    assert isinstance(scan.geometry, ParallelBeam)
    assert np.allclose(np.rad2deg(np.unwrap(scan.geometry.angles_rad)), [0, 90, 180, 270])
    assert np.isclose(scan.geometry.vectors[0, 3], (2 - 1.5) * 2.0)


def test_transmission_layers_take_the_logarithm():
    data = np.full((4, 3, 5), np.exp(-2.0), np.float32)
    scan = scan_from_array(data, LayerGeometry(values="transmission"))
    assert np.allclose(scan.measurements, 2.0, atol=1e-5)


def test_the_volume_can_be_changed(dock, cone_scan):
    dock.session.set_scan(cone_scan)
    assert dock.volume.value() == VolumeChoice(z=16, y=16, x=16, voxel_mm=3.0)
    dock.volume.fields["z"].value = 8
    dock.apply_volume.click()
    assert dock.session.scan.grid.shape == (8, 16, 16)
    assert dock.session.scan.truth is None


def test_a_volume_around_the_source_is_one_sentence(dock, cone_scan):
    dock.session.set_scan(cone_scan)
    for voxel, said in ((300.0, "source of view 0 lies inside"), (1e-18, "voxel_mm")):
        dock.volume.fields["voxel_mm"].native.setMinimum(0)
        dock.volume.fields["voxel_mm"].value = voxel
        dock.apply_volume.click()
        assert dock.message.kind == "error"
        assert said in dock.message.text()
        assert dock.session.scan is cone_scan


def test_the_pair_is_measured(qtbot, dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.check.click()
    ended(qtbot, dock)
    assert "matched" in dock.pair.text()
    assert "Joseph" in dock.pair.text()
    assert dock.session.physics is not None


def test_the_drawing_paints_every_geometry(qtbot, dock, cone_scan, mri_scan):
    parallel = scan_from_array(np.ones((5, 6, 10), np.float32), LayerGeometry())
    image = sample_deblur((12, 24, 24), along_z=True)
    dock.resize(340, 700)
    for scan in (cone_scan, parallel, mri_scan, image, sample_deblur((1, 24, 24))):
        dock.drawing.show_scan(scan)
        dock.drawing.resize(300, 170)
        image = dock.drawing.grab().toImage()
        colours = {image.pixel(x, y) for x in range(0, 300, 3) for y in range(0, 170, 3)}
        assert len(colours) > 3
    dock.view.setValue(3)


def test_facts_name_what_was_read(cone_scan, mri_scan):
    assert "cone beam" in facts_html(cone_scan)
    assert "8 × 16 × 16" in facts_html(mri_scan)


@pytest.mark.parametrize(("factor", "told"), [(1e-6, ("Voxel (nm)", "3</td>")), (1e-3, ("Voxel (µm)", "3</td>"))])
def test_small_lengths_are_told_in_small_units(cone_scan, factor, told):
    vectors = np.array(cone_scan.geometry.vectors)
    small = replace(
        cone_scan, geometry=ConeBeam(vectors=factor * vectors, detector_shape=cone_scan.geometry.detector_shape),
        grid=replace(cone_scan.grid, spacing_mm=tuple(factor * s for s in cone_scan.grid.spacing_mm)),
    )  # fmt: skip
    facts = facts_html(small).replace("&nbsp;", "")
    assert all(words in facts for words in told)


def test_every_button_explains_itself(dock):
    assert all(b.toolTip() for b in dock.findChildren(QPushButton) if b.objectName() != "samples")


def test_a_wrong_axis_is_seen_and_corrected(qtbot, dock, cone_scan):
    dock.session.set_scan(replace(cone_scan, geometry=shifted(cone_scan.geometry, -3)))
    dock.geometry_box.check_button.click()
    assert not dock.running.isHidden()
    ended(qtbot, dock)
    assert "3.0 px off" in dock.geometry_box.verdict.text()
    assert list(dock.geometry_box.overlay.images) == ["measured", "reprojected", "difference"]
    first = dock.geometry_box.overlay.images["measured"]
    dock.geometry_box.view.setValue(5)
    assert np.array_equal(dock.geometry_box.overlay.images["measured"], cone_scan.measurements[5])
    assert not np.array_equal(first, dock.geometry_box.overlay.images["measured"])
    dock.geometry_box.correct.click()
    assert np.allclose(dock.session.scan.geometry.vectors, cone_scan.geometry.vectors, atol=0.7 * 9)
    dock.geometry_box.check_button.click()
    ended(qtbot, dock)
    assert "fits" in dock.geometry_box.verdict.text()
    assert dock.geometry_box.correct.isHidden()


def test_the_geometry_check_can_be_cancelled(qtbot, dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.geometry_box.check_button.click()
    dock.running.cancel.click()
    assert dock.geometry_box.verdict.isHidden()
    assert "cancelled" in dock.message.text()
    assert dock.running.isHidden()


def test_only_x_ray_scans_offer_the_geometry_check(dock, cone_scan, mri_scan):
    dock.session.set_scan(cone_scan)
    assert not dock.geometry_box.isHidden()
    dock.session.set_scan(mri_scan)
    assert dock.geometry_box.isHidden()


def test_a_dropped_result_brings_back_its_scan_and_its_choices(dock, qtbot, tmp_path):
    """Dropped on another window: the scan with its changes, the form, and a command with all of it."""
    reconstruct = ReconstructDock(dock.session.viewer)
    qtbot.addWidget(reconstruct)
    scan = edited(open_scan("sample:cone-beam", {"n": 16, "n_views": 12, "oversample": 1}), Edits(shape=(8, 16, 16)))
    plan = resolve(Choices(method="tv-fista", params={"n_iterations": 3, "strength": 0.02}), scan)
    *_, finished = run(plan, scan)
    path = write(tmp_path / "kept.ome.zarr", finished.result, plan.grid, record(plan, scan, finished))
    dock.open_path(path)
    with qtbot.waitSignal(dock.session.choices_restored, timeout=TIMEOUT_MS):
        pass
    assert dock.session.scan.grid.shape == (8, 16, 16)
    (layer,) = dock.session.layers.ours("result")
    np.testing.assert_array_equal(layer.data, finished.result)
    assert reconstruct.method.list.currentData() == "tv-fista"
    assert reconstruct.method.params.fields["strength"].value == 0.02
    assert reconstruct.choices().params["n_iterations"] == 3
    reconstruct.output.copy_button.click()
    command = QApplication.clipboard().text()
    assert "--option n_views=12" in command
    assert "'shape=[8, 16, 16]'" in command
    reconstruct.output.python_button.click()
    assert "open_scan('sample:cone-beam'" in QApplication.clipboard().text()


def test_a_volume_set_in_the_dock_is_in_the_command(dock, qtbot):
    dock.session.set_scan(open_scan("sample:cone-beam", {"n": 16, "n_views": 12, "oversample": 1}))
    dock.volume.fields["z"].value = 4
    dock.apply_volume.click()
    assert edits_of(dock.session.scan).shape == (4, 16, 16)


def test_a_scan_of_a_layer_is_saved_before_it_is_copied(dock, qtbot, tmp_path, cone_scan, monkeypatch):
    reconstruct = ReconstructDock(dock.session.viewer)
    qtbot.addWidget(reconstruct)
    dock.session.set_scan(replace(cone_scan, provenance=replace(cone_scan.provenance, source="")))
    path = tmp_path / "layer.h5"
    monkeypatch.setattr(reconstruct.output, "_ask_scan_path", lambda: path)
    reconstruct.output.copy_button.click()
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass
    assert str(path) in QApplication.clipboard().text()
    again = open_scan(str(path))
    np.testing.assert_array_equal(again.measurements, cone_scan.measurements)
    assert again.provenance.sha256 == dock.session.scan.provenance.sha256


def off_axis(scan, columns):
    return replace(scan, geometry=shifted(scan.geometry, columns))


def test_a_click_on_a_slice_of_the_sweep_moves_the_axis(qtbot, dock, cone_scan):
    dock.session.set_scan(off_axis(cone_scan, 2))
    dock.geometry_box.sweep.try_button.click()
    ended(qtbot, dock)
    found = dock.geometry_box.sweep.found
    assert found.offsets == (-4, -3, -2, -1, 0, 1, 2, 3, 4)
    assert list(dock.geometry_box.sweep.strip.images)[2] == "-2 px"
    dock.resize(400, 900)
    panel = dock.geometry_box.sweep.strip._panels()["-2 px"].center().toPoint()
    qtbot.mouseClick(dock.geometry_box.sweep.strip, Qt.MouseButton.LeftButton, pos=panel)
    (layer,) = dock.session.layers.ours("trial")
    np.testing.assert_array_equal(layer.data[0], found.slices[2])
    dock.geometry_box.sweep.take_button.click()
    np.testing.assert_allclose(dock.session.scan.geometry.vectors, cone_scan.geometry.vectors, atol=1e-9)
    assert edits_of(dock.session.scan) == Edits(axis_shift_px=-2)
    assert dock.session.layers.ours("trial") == []
    assert dock.geometry_box.sweep.found is None


def test_the_present_place_is_nothing_to_take(qtbot, dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.geometry_box.sweep.choose("Detector height")
    dock.geometry_box.sweep.step.setValue(0.5)
    dock.geometry_box.sweep.try_button.click()
    ended(qtbot, dock)
    assert dock.geometry_box.sweep.found.offsets[-1] == 2.0
    assert not dock.geometry_box.sweep.take_button.isEnabled()
    assert "px" in dock.geometry_box.sweep.step.suffix()


@pytest.mark.parametrize("kind", ["cone", "parallel"])
def test_the_setup_stands_in_space_and_follows_the_view(dock, cone_scan, kind):
    scan = cone_scan
    if kind == "parallel":
        options = LayerGeometry(beam="parallel")
        scan = scan_from_array(np.ones((12, 8, 16), np.float32), options)
    dock.session.set_scan(scan)
    dock.geometry_box.setup_button.click()
    layers = {layer.name: layer for layer in dock.session.layers.ours("setup")}
    assert ("source" in layers) == (kind == "cone")
    assert dock.session.viewer.dims.ndisplay == 3
    geometry = scan.geometry
    before = layers["detector"].vertices.copy()
    if kind == "cone":
        np.testing.assert_allclose(layers["source"].data[0], geometry.vectors[0, :3][::-1])
        np.testing.assert_allclose(before.mean(0), geometry.vectors[0, 3:6][::-1], atol=1e-9)
    edges = layers["volume's edges"].data
    assert len(edges) == 12
    ends = np.concatenate([edges[:, 0], edges.sum(1)])
    np.testing.assert_allclose(np.ptp(ends, axis=0), scan.grid.size_mm, rtol=1e-4)
    for across in ((0, 0, 1), (1, 0, 0)):  # napari draws ribbons across these, which must not vanish
        assert np.linalg.norm(np.cross(edges[:, 1], across), axis=1).min() > 0
    dock.view.setValue(3)
    assert not np.allclose(layers["detector"].vertices, before)
    dock.session.set_scan(scan)
    assert dock.session.layers.ours("setup") == []
