"""Where layers lie, how complex volumes and streams become layers, and that removing them is safe."""

import dataclasses
import gc

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_unroll.events import Finished, IterationDone, Outcome, PatchDone, QuickLook
from napari_unroll.gui import contributions, images, result_view, stored_image
from napari_unroll.gui.drawn import Rectangle
from napari_unroll.gui.images import contrast
from napari_unroll.gui.layers import LayerWriter
from napari_unroll.gui.placement import grid_of, placement, projections_placement, values_of
from napari_unroll.gui.session import session_of
from napari_unroll.io import ome_zarr
from napari_unroll.scan.geometry import VolumeGrid
from tests.gui.conftest import needs_opengl

GRID = VolumeGrid(shape=(8, 10, 12), spacing_mm=(2.0, 1.0, 0.5), center_mm=(3.0, 0.0, -1.0))


@pytest.fixture
def writer(model) -> LayerWriter:
    return LayerWriter(model)


def world_centre(layer) -> np.ndarray:
    return np.asarray(layer.extent.world).mean(axis=0)


def test_volumes_lie_in_millimetres_where_the_grid_says(writer):
    (layer,) = writer.show_volume("v", np.zeros(GRID.shape, np.float32), GRID)
    assert np.allclose(world_centre(layer), GRID.center_mm)
    assert np.allclose(np.ptp(layer.extent.world, axis=0), np.subtract(GRID.size_mm, GRID.spacing_mm))
    assert str(layer.units[0]) == "millimeter"


def test_a_patch_grid_overlaps_its_place_in_the_volume(writer):
    part = GRID.restrict((slice(2, 6), slice(0, 5), slice(6, 12)))
    world = np.array(placement(part)["translate"])
    index = (world - np.array(GRID.origin_mm)) / np.array(GRID.spacing_mm)
    assert np.allclose(index, (2, 0, 6))


def test_complex_volumes_are_magnitude_and_phase(writer, model):
    values = np.full(GRID.shape, 3j, np.complex64)
    phase, magnitude = writer.show_volume("m", values, GRID)
    assert np.allclose(magnitude.data, 3)
    assert np.allclose(phase.data, np.pi / 2)
    assert phase.name == "m · phase"
    assert not phase.visible
    writer.show_volume("m", values, GRID)
    assert len(model.layers) == 2


def test_projections_are_as_large_as_the_object_they_show(cone_scan):
    scale = projections_placement(cone_scan)["scale"]
    assert np.isclose(scale[2], cone_scan.geometry.pixel_mm[1] / 3)
    assert np.isclose(scale[0], cone_scan.grid.spacing_mm[0])


def test_a_scan_shows_measurements_and_hides_its_truth(writer, model, cone_scan, mri_scan):
    writer.show_scan(cone_scan)
    assert [layer.name.split(" · ")[1] for layer in model.layers] == ["truth", "projections"]
    assert [layer.visible for layer in model.layers] == [False, True]
    writer.show_scan(mri_scan)
    assert {layer.name.split(" · ")[1] for layer in model.layers} == {"truth", "k-space (log10)"} | {"truth"}
    assert not writer.ours("result")


def test_the_view_follows_the_scan(writer, model, cone_scan):
    writer.show_scan(cone_scan)
    old = writer.show_volume("old", cone_scan.truth, cone_scan.grid, role="result")[0]
    writer.show_scan(dataclasses.replace(cone_scan, truth=None))
    (measured,) = writer.ours("measurements")
    assert [layer for layer in model.layers if layer.visible] == [measured]
    assert old in model.layers
    low, high = measured.extent.world
    np.testing.assert_allclose(model.dims.point, (low + high) / 2, atol=max(measured.scale))


def test_a_new_scan_ends_a_side_by_side_view(writer, model, cone_scan):
    writer.side_by_side([writer.show_volume(n, np.ones(GRID.shape), GRID)[0] for n in "ab"])
    writer.show_scan(cone_scan)
    assert not model.canvas.grid.enabled


def test_a_result_is_first_seen_in_its_middle(writer, model, cone_scan):
    writer.show_scan(cone_scan)
    view = writer.begin_result("r", cone_scan.grid)
    z = view.layer.world_to_data(model.dims.point)[0]
    assert abs(z - (cone_scan.grid.shape[0] - 1) / 2) <= 1


def test_layers_of_another_order_of_magnitude_leave_the_sliders_alone(writer, model, cone_scan):
    writer.show_volume(
        "in metres", cone_scan.truth, VolumeGrid(shape=cone_scan.grid.shape, spacing_mm=(1e3,) * 3), "result"
    )
    writer.show_scan(cone_scan)
    assert all(n < 10_000 for n in model.dims.nsteps)


def test_results_stream_into_one_layer(writer, model):
    view = writer.begin_result("r", GRID)
    values = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    box = (slice(0, 4), slice(0, 5), slice(0, 6))
    view.sink(PatchDone(box, values[box], consistency=0.25))
    assert np.array_equal(view.layer.data[box], values[box])
    assert np.nanmax(view.arrived.data) == 0.25
    assert np.isnan(view.arrived.data[-1, -1, -1])
    assert [layer.name for layer in model.layers] == ["r", "arrived patches"]
    view.sink(IterationDone(1, 2, values=values))
    assert np.array_equal(view.layer.data, values)
    view.sink(Finished(Outcome.COMPLETED, values * 2))
    writer.finish_result(view, values * 2)
    assert np.array_equal(view.layer.data, values * 2)
    assert [layer.name for layer in writer.ours("result")] == ["r"]
    assert not writer.streamer.active


def test_contrast_follows_the_values_until_touched(writer):
    view = writer.begin_result("r", GRID)
    values = np.linspace(0, 5, np.prod(GRID.shape), dtype=np.float32).reshape(GRID.shape)
    view.follow(IterationDone(1, 2, values=values))
    assert view.layer.contrast_limits[1] > 4.5
    view.layer.contrast_limits = (0.0, 1.0)
    view.follow(IterationDone(2, 2, values=3 * values))
    assert tuple(view.layer.contrast_limits) == (0.0, 1.0)


def test_what_was_shown_stays_in_sight_until_there_is_something_to_see(writer, model, cone_scan):
    writer.show_scan(cone_scan)
    shown = [layer for layer in model.layers if layer.visible]
    view = writer.begin_result("r", cone_scan.grid)
    view.follow(IterationDone(1, 2))
    assert [layer for layer in model.layers if layer.visible] == shown
    view.follow(QuickLook((slice(4, 8), slice(0, 16), slice(0, 16)), np.ones((4, 16, 16), np.float32)))
    assert [layer for layer in model.layers if layer.visible] == [view.layer]


def test_a_patch_of_air_does_not_blind_the_view(writer):
    view = writer.begin_result("r", GRID)
    values = np.linspace(0, 5, np.prod(GRID.shape), dtype=np.float32).reshape(GRID.shape)
    view.follow(IterationDone(1, 2, values=values))
    limits = view.layer.contrast_limits
    view.follow(PatchDone((slice(0, 2),) * 3, np.full((2, 2, 2), 1e-4, np.float32)))
    assert view.layer.contrast_limits[1] == limits[1]
    view.follow(PatchDone((slice(0, 2),) * 3, np.full((2, 2, 2), 9, np.float32)))
    assert view.layer.contrast_limits[1] > 8


def test_a_cancelled_result_takes_its_layers_away(writer, model):
    view = writer.begin_result("r", GRID)
    writer.finish_result(view, None)
    assert len(model.layers) == 0


def test_cancelling_brings_back_what_was_shown(writer, model, cone_scan):
    writer.show_scan(cone_scan)
    shown = [layer.visible for layer in model.layers]
    view = writer.begin_result("r", cone_scan.grid)
    view.follow(IterationDone(1, 2, values=np.ones(cone_scan.grid.shape, np.float32)))
    assert [layer for layer in model.layers if layer.visible] == [view.layer]
    writer.finish_result(view, None)
    assert [layer.visible for layer in model.layers] == shown


def test_a_result_that_the_user_removed_is_no_trouble(writer, model):
    view = writer.begin_result("r", GRID)
    model.layers.remove(view.layer)
    view.sink(PatchDone((slice(0, 4),) * 3, np.ones((4, 4, 4), np.float32)))
    writer.streamer.tick()
    writer.finish_result(view, np.ones(GRID.shape, np.float32))
    assert view.layer not in model.layers


@needs_opengl
def test_add_add_remove_add_survives(viewer):
    writer = LayerWriter(viewer)
    for i in range(4):
        writer.show_volume(f"v{i}", np.random.default_rng(i).random(GRID.shape), GRID)
        viewer.dims.ndisplay = 2 + i % 2
        viewer.screenshot(flash=False)
        if i:
            viewer.layers.remove(viewer.layers[0])
    viewer.layers.clear()
    writer.show_volume("last", np.ones(GRID.shape), GRID)
    assert viewer.screenshot(flash=False).shape[2] == 4


def test_side_by_side_shows_only_what_is_compared(writer, model):
    layers = [writer.show_volume(n, np.ones(GRID.shape), GRID)[0] for n in "abcd"]
    writer.side_by_side(layers[:3])
    assert model.canvas.grid.enabled
    assert model.canvas.grid.actual_shape(model.layers) == (1, 3)
    assert not layers[3].visible
    assert [layer.name_overlay.visible for layer in layers] == [True, True, True, False]
    writer.side_by_side(layers[:3], on=False)
    assert not any(layer.name_overlay.visible for layer in layers)
    assert not model.canvas.grid.enabled


def test_contrast_of_odd_values():
    assert contrast(np.zeros(10)) == (0.0, 1e-6)
    assert contrast(np.full(4, np.nan)) == (0.0, 1.0)


def test_large_volumes_are_shown_by_levels_that_take_no_memory(model, monkeypatch):
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(images, "COARSEST", 8)
    values = np.arange(4 * 32 * 20, dtype=np.float32).reshape(4, 32, 20)
    grid = VolumeGrid(shape=values.shape, spacing_mm=(1.0, 0.5, 0.5))
    (layer,) = LayerWriter(model).show_volume("large", values, grid)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(4, 32, 20), (2, 16, 10), (1, 8, 5)]
    assert all(np.shares_memory(level, layer.data[0]) for level in layer.data)
    assert values_of(layer).shape == values.shape
    assert grid_of(layer) == grid
    model.dims.ndisplay = 3
    assert layer.data_level == 2


def test_a_large_layer_is_measured_and_written_in_full(model, qtbot, monkeypatch, tmp_path):
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(images, "COARSEST", 8)
    values = np.random.default_rng(0).random((4, 32, 20)).astype(np.float32)
    (large,) = LayerWriter(model).show_volume("large", values, VolumeGrid(shape=values.shape))
    data, arguments, _ = large.as_layer_data_tuple()
    (path,) = contributions.write_volume(str(tmp_path / "large.npy"), data, arguments)
    np.testing.assert_array_equal(np.load(path), values)


@pytest.fixture
def tiny_limits(monkeypatch, tmp_path):
    """Everything is large."""
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    monkeypatch.setattr(images, "LARGE", 100)
    monkeypatch.setattr(ome_zarr, "LARGE", 6)


@needs_opengl
def test_a_large_result_streams_to_disk_and_is_shown_in_levels(viewer, tiny_limits, tmp_path):
    writer = LayerWriter(viewer)
    view = writer.begin_result("r", GRID)
    values = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    box = (slice(1, 4), slice(0, 5), slice(6, 12))
    event = PatchDone(box, values[box], consistency=0.25)
    view.sink(event)
    view.follow(event)
    writer.streamer.tick()
    assert view.layer.visible
    assert [level.shape for level in view.layer.data] == [(8, 10, 12), (4, 5, 6)]
    np.testing.assert_array_equal(np.asarray(values_of(view.layer))[box], values[box])
    assert grid_of(view.layer) == GRID
    view.sink(IterationDone(1, 2, values=values))
    view.sink(Finished(Outcome.COMPLETED, 2 * values))
    writer.finish_result(view, 2 * values)
    np.testing.assert_array_equal(np.asarray(values_of(view.layer)), 2 * values)
    for ndisplay in (2, 3):
        viewer.dims.ndisplay = ndisplay
        assert viewer.screenshot(flash=False)[..., :3].max() > 0
    folder = view.layer.path.parent
    assert folder.parent == tmp_path / "results"


def test_a_large_complex_result_has_its_phase_beside_it(writer, model, tiny_limits):
    view = writer.begin_result("r", GRID, patchwise=False)
    values = np.full(GRID.shape, 2j, np.complex64)
    view.sink(Finished(Outcome.COMPLETED, values))
    writer.finish_result(view, values)
    assert [layer.name for layer in model.layers] == ["r", "r · phase"]
    np.testing.assert_allclose(np.asarray(values_of(view.layer)), 2)


def test_a_full_disk_ends_no_run(writer, tiny_limits, monkeypatch):
    view, told = writer.begin_result("r", GRID), []

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(view.layer._growing, "put", full)
    monkeypatch.setattr(stored_image, "show_warning", told.append)
    view.sink(Finished(Outcome.COMPLETED, np.ones(GRID.shape, np.float32)))
    writer.finish_result(view, np.ones(GRID.shape, np.float32))
    assert "No space left" in told[0]


def test_what_is_on_disk_goes_with_its_layer(tiny_limits):
    layer = result_view.result_image("r", GRID)
    folder = layer.path.parent
    assert folder.exists()
    del layer
    gc.collect()
    assert not folder.exists()


def test_writing_between_iterations_takes_a_tenth_of_the_time(tiny_limits, monkeypatch):
    layer, clock, written = result_view.result_image("r", GRID), [0.0], []

    def put(box, values):
        written.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr(stored_image.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(layer._growing, "put", put)
    for _ in range(30):
        layer.post_volume(np.ones(GRID.shape, np.float32))
        clock[0] += 1.0
    assert written == [0.0, 20.0]


@needs_opengl
def test_long_names_fit_their_tiles(viewer):
    writer = LayerWriter(viewer)
    names = [f"walnut, cone beam, 50 views · {method}" for method in ("fdk", "tv-fista", "unrolled-pgd", "truth")]
    grid = VolumeGrid(shape=(4, 8, 8))
    shown = [writer.show_volume(name, np.ones(grid.shape, np.float32), grid)[0] for name in names]
    viewer.window.resize(1000, 600)
    writer.side_by_side(shown)
    viewer.window._qt_viewer.canvas.on_draw(None)
    visuals = viewer.window._qt_viewer.canvas._layer_overlay_to_visual
    widths = [v.x_size for layer in shown for name, v in visuals[layer].items() if name is layer.name_overlay]
    assert widths
    assert max(widths) <= viewer.canvas.viewbox_size(viewer.layers)[1]
    writer.side_by_side(shown[:1])
    assert shown[0].name_overlay.font_size == 10


@needs_opengl
def test_three_tiles_stand_in_a_column_where_their_names_do_not_fit_in_a_row(viewer):
    writer = LayerWriter(viewer)
    names = [f"walnut, cone beam, 50 views · {method}" for method in ("fdk", "tv-fista", "unrolled-pgd")]
    grid = VolumeGrid(shape=(4, 8, 8))
    shown = [writer.show_volume(name, np.ones(grid.shape, np.float32), grid)[0] for name in names]
    canvas = viewer.window._qt_viewer.canvas
    writer.side_by_side(shown)
    for width, arranged in ((1900, (1, 3)), (560, (3, 1)), (1900, (1, 3))):
        viewer.canvas.size = (600, width)
        assert viewer.canvas.grid.actual_shape(viewer.layers) == arranged
        canvas.on_draw(None)
        visuals = canvas._layer_overlay_to_visual
        widths = [v.x_size for layer in shown for name, v in visuals[layer].items() if name is layer.name_overlay]
        assert len(widths) == len(shown)
        assert max(widths) <= viewer.canvas.viewbox_size(viewer.layers)[1]


def reach(viewer):
    """First and last place of the slider z, in mm, and how many there are."""
    low, high, _ = viewer.dims.range[0]
    return low, high, viewer.dims.nsteps[0]


@needs_opengl
def test_sliders_run_over_what_is_visible(viewer, cone_scan):
    writer, grid = session_of(viewer).layers, cone_scan.grid
    longer = dataclasses.replace(cone_scan, truth=None, grid=VolumeGrid(shape=(8, 16, 16), spacing_mm=grid.spacing_mm))
    writer.show_scan(longer)
    (projections,) = writer.ours("measurements")
    of_views, of_planes = 5.5 * grid.spacing_mm[0], 3.5 * grid.spacing_mm[0]
    assert reach(viewer) == pytest.approx((-of_views, of_views, 12))
    (volume,) = writer.show_volume("v", np.ones(longer.grid.shape, np.float32), longer.grid)
    writer.turn_to([volume])
    assert reach(viewer) == pytest.approx((-of_planes, of_planes, 8))
    viewer.dims.set_point(0, of_planes)
    projections.visible = True
    assert reach(viewer) == pytest.approx((-of_views, of_views, 12))
    assert viewer.dims.point[0] == pytest.approx(of_planes)
    viewer.dims.set_point(0, of_views)
    projections.visible = False
    assert viewer.dims.point[0] == pytest.approx(of_planes)
    volume.visible = False
    assert reach(viewer)[2] == 12
    theirs = viewer.add_image(np.ones((40, 4, 4)), scale=grid.spacing_mm, visible=False, units="mm")
    assert reach(viewer)[2] >= 40
    viewer.layers.remove(theirs)
    view = writer.begin_result("r", longer.grid)
    assert reach(viewer)[2] == 12
    view.sink(Finished(Outcome.COMPLETED, np.ones(longer.grid.shape, np.float32)))
    writer.finish_result(view, np.ones(longer.grid.shape, np.float32))
    assert reach(viewer)[2] == 8


@needs_opengl
@pytest.mark.parametrize("planes", [slice(7, 11), slice(2, 8), slice(0, 16)])
def test_the_view_stays_in_its_plane_when_a_slab_comes(viewer, cone_scan, planes):
    writer, grid = session_of(viewer).layers, cone_scan.grid
    writer.show_scan(cone_scan)
    writer.viewpoint.go_to(grid, (7, 8, 8))
    slab = grid.restrict((planes, slice(0, 16), slice(0, 16)))
    view = writer.begin_result("slab", slab)
    view.sink(Finished(Outcome.COMPLETED, np.ones(slab.shape, np.float32)))
    writer.finish_result(view, np.ones(slab.shape, np.float32))
    assert writer.viewpoint.plane(grid) == 7
    assert viewer.dims.nsteps[0] == slab.shape[0]
    writer.remove("result")
    assert writer.viewpoint.plane(grid) == 7


def unit_warnings():
    return [record for record in notification_manager.records if "units" in str(record.message)]


@needs_opengl
def test_beside_a_layer_without_units_ours_have_none_and_napari_warns_once_at_most(viewer, cone_scan):
    writer, rectangle = session_of(viewer).layers, Rectangle(viewer, "region")
    writer.show_scan(cone_scan)
    theirs = viewer.add_image(np.ones((16, 16, 16)))  # napari warns before anyone else hears of the layer
    notification_manager.records.clear()
    rectangle.show(cone_scan.grid, slice(4, 8), slice(4, 8), lambda *_: None)
    (volume,) = writer.show_volume("v", np.ones(cone_scan.grid.shape, np.float32), cone_scan.grid)
    viewer.screenshot(flash=False)
    assert not unit_warnings()
    assert grid_of(volume) == cone_scan.grid
    writer.viewpoint.go_to(cone_scan.grid, (3, 4, 5))
    assert writer.viewpoint.plane(cone_scan.grid) == 3
    viewer.layers.remove(theirs)
    viewer.screenshot(flash=False)
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"millimeter"}
    assert not unit_warnings()


def test_a_layer_in_other_units_of_length_leaves_the_view_where_it_is(writer, model, cone_scan):
    writer.show_scan(cone_scan)
    writer.viewpoint.go_to(cone_scan.grid, (3, 4, 5))
    theirs = model.add_image(np.ones((16, 16, 16)), scale=(500.0, 500.0, 500.0), units="um")
    assert model.dims.range[0].step == 500
    assert writer.viewpoint.plane(cone_scan.grid) == 3
    assert grid_of(theirs).spacing_mm == (0.5, 0.5, 0.5)
    writer.viewpoint.go_to(cone_scan.grid, (5, 4, 3))
    assert writer.viewpoint.plane(cone_scan.grid) == 5
    model.layers.remove(theirs)
    assert writer.viewpoint.plane(cone_scan.grid) == 5
