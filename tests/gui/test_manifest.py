"""The manifest is valid, its commands import, and napari can open every contribution."""

from pathlib import Path

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.layers import Image, Layer
from npe2 import PluginManager, PluginManifest

import napari_unroll
from napari_unroll.errors import ParameterError
from napari_unroll.gui import contributions
from napari_unroll.gui.layers import SCAN
from napari_unroll.io import ome_zarr
from napari_unroll.io.registry import READERS
from napari_unroll.io.scan_file import write_scan
from napari_unroll.io.writers import read_volume, write
from napari_unroll.pipeline import sources
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import VolumeGrid
from tests.gui.conftest import TIMEOUT_MS
from tests.io import samples

MANIFEST = Path(napari_unroll.__file__).parent / "napari.yaml"


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_every_command_imports(manifest):
    manifest.validate_imports()
    assert manifest.display_name == "Unroll"


def test_the_link_at_the_top_is_the_manifest():
    top = MANIFEST.parents[2] / "napari.yaml"
    if not top.exists():
        pytest.skip("installed without the repository")
    assert top.read_text() == MANIFEST.read_text()


def test_docks_are_contributed(manifest):
    assert [w.display_name for w in manifest.contributions.widgets] == [
        "Start here", "Scan", "Normal operator", "Reconstruct", "Train", "Compare",
    ]  # fmt: skip


def test_samples_are_scans_in_layers(monkeypatch, cone_scan, mri_scan):
    monkeypatch.setattr(sources, "sample", lambda name: cone_scan if name == "cone-beam" else mri_scan)
    for sample, scan in ((contributions.cone_beam_sample, cone_scan), (contributions.multicoil_sample, mri_scan)):
        ((data, meta, kind),) = sample()
        assert kind == "image"
        assert meta["metadata"][SCAN] is scan
        assert np.isrealobj(data)


@pytest.mark.parametrize("sample", [contributions.deblur_sample, contributions.super_resolution_sample])
def test_image_samples_are_the_measured_image(sample, monkeypatch):
    make = sources.sample
    monkeypatch.setattr(sources, "sample", lambda name: make(name, {"shape": (1, 24, 24)}))
    ((data, meta, _),) = sample()
    scan = meta["metadata"][SCAN]
    np.testing.assert_array_equal(data, scan.measurements)
    assert np.prod(meta["scale"]) * data.size == pytest.approx(np.prod(scan.grid.size_mm))


def test_scan_files_open_as_layers(tmp_path, cone_scan):
    path = tmp_path / "scan.h5"
    write_scan(path, cone_scan)
    read = contributions.get_reader(str(path))
    assert read is not None
    ((data, meta, _),) = read(str(path))
    assert np.allclose(data, cone_scan.measurements)
    assert meta["metadata"][SCAN].geometry == cone_scan.geometry


def test_other_files_are_left_to_others(tmp_path):
    path = tmp_path / "table.h5"
    path.write_text("no measurements")
    assert contributions.get_reader(str(path)) is None
    assert contributions.get_reader([str(path)]) is None


@pytest.mark.parametrize("name", ["r.h5", "r.nxs", "r.zarr"])
def test_saved_layers_open_where_they_were(manifest, tmp_path, name):
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    layer = Image(
        values, scale=(0.3, 0.2, 0.1), translate=(1, 2, 3), units="mm", metadata={"provenance": {"method": "fdk"}}
    )
    (writer,) = manifest.contributions.writers
    assert Path(name).suffix in writer.filename_extensions
    data, meta, _ = layer.as_layer_data_tuple()
    (written,) = contributions.write_volume(str(tmp_path / name), data, meta)
    read = contributions.get_reader(written)
    ((data, meta, kind),) = read(written)
    np.testing.assert_array_equal(data, values)
    assert kind == "image"
    assert meta["scale"] == pytest.approx((0.3, 0.2, 0.1))
    assert meta["translate"] == pytest.approx((1, 2, 3))
    assert meta["metadata"]["provenance"] == {"method": "fdk"}


def test_written_layers_are_in_mm(tmp_path):
    layer = Image(np.ones((5, 6), np.float32), scale=(20, 10), units="um")
    data, meta, _ = layer.as_layer_data_tuple()
    (written,) = contributions.write_volume(str(tmp_path / "r.npy"), data, meta)
    volume = read_volume(written)
    assert volume.values.shape == (1, 5, 6)
    assert volume.grid.spacing_mm == pytest.approx((0.01, 0.02, 0.01))
    with pytest.raises(ParameterError, match="two or three axes"):
        contributions.write_volume(str(tmp_path / "s.npy"), np.ones((2, 2, 2, 2)), {})


def test_a_complex_result_opens_as_magnitude_and_phase(tmp_path):
    grid = VolumeGrid(shape=(2, 3, 4))
    path = write(tmp_path / "r.h5", np.full(grid.shape, 2j, np.complex64), grid)
    phase, magnitude = contributions.get_reader(str(path))(str(path))
    assert phase[0].flat[0] == pytest.approx(np.pi / 2)
    assert magnitude[0].flat[0] == pytest.approx(2)


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_growing_store_opens_and_shows_what_came_since(tmp_path, monkeypatch, is_complex):
    """Lazily, with coarser levels where it is large, and where it belongs."""
    monkeypatch.setattr(ome_zarr, "LARGE", 8)
    grid = VolumeGrid(shape=(6, 20, 20), spacing_mm=(2.0, 1.0, 1.0))
    growing = ome_zarr.GrowingVolume(tmp_path / "r.ome.zarr", "unfinished", grid, is_complex, (4, 8, 8))
    *_, (data, arguments, kind) = contributions.get_reader(str(tmp_path / "r.ome.zarr"))(str(tmp_path / "r.ome.zarr"))
    layer = Layer.create(data, arguments, kind)
    assert layer.multiscale
    assert [tuple(level.shape) for level in layer.data] == [(6, 20, 20), (3, 10, 10), (2, 5, 5)]
    np.testing.assert_allclose(layer.translate, grid.origin_mm)
    values = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
    growing.put((slice(1, 4), slice(5, 13), slice(2, 10)), values * (1j if is_complex else 1))
    np.testing.assert_allclose(np.asarray(layer.data[0])[1:4, 5:13, 2:10], values, rtol=1e-6)
    for f, level in zip((2, 4), layer.data[1:], strict=True):
        np.testing.assert_array_equal(np.asarray(level), np.asarray(layer.data[0])[::f, ::f, ::f])


def test_every_suffix_of_a_reader_is_asked_for(manifest):
    """But those that napari opens itself, where a scan is opened in the dock."""
    patterns = {p for r in manifest.contributions.readers for p in r.filename_patterns}
    own = {".tif", ".tiff", ".npy", ".png"}
    wanted = {f"*{suffix}" for reader in READERS for suffix in reader.extensions if suffix not in own}
    assert wanted <= patterns


def test_napari_asks_about_every_folder(manifest, tmp_path):
    """A folder of views opens as a scan, a store of another program as a volume."""
    assert any(r.accepts_directories for r in manifest.contributions.readers)
    folder = samples.write_tiff_folder(tmp_path / "views")
    manager = PluginManager()
    manager.register(manifest)
    assert list(manager.iter_compatible_readers([str(folder)]))
    ((_, meta, _),) = contributions.get_reader(str(folder))(str(folder))
    assert meta["metadata"][SCAN].measurements.shape[0] == samples.N_VIEWS


def test_other_folders_are_no_volumes(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert contributions.get_reader(str(tmp_path)) is None
    assert contributions.get_reader(str(tmp_path / "gone.h5")) is None


def test_napari_opens_every_dock(viewer, manifest, qtbot):
    for contribution in manifest.contributions.widgets[1:]:
        _, widget = viewer.window.add_plugin_dock_widget("napari-unroll", contribution.display_name)
        qtbot.waitSignal(widget.ready, timeout=TIMEOUT_MS).wait()
        assert widget.isVisible()
        assert widget.dock.isVisible()
        assert widget.minimumWidth() >= 320
        assert widget.dock.session.viewer is viewer


@pytest.mark.parametrize(
    ("menu", "title"),
    [("file/io_utilities", "Scan"), ("layers/visualize", "Normal operator"), ("layers/measure", "Compare")],
)
def test_menus_open_docks(viewer, qtbot, menu, title):
    entries = {
        entry.command.id: entry.command
        for entry in get_app_model().menus.get_menu(f"napari/{menu}")
        if hasattr(entry, "command")
    }
    (wanted,) = [key for key, command in entries.items() if command.title.startswith(title)]
    get_app_model().commands.execute_command(wanted)
    widget = viewer.window.dock_widgets[f"{title} (Unroll)"]
    qtbot.waitUntil(lambda: widget.dock is not None, timeout=TIMEOUT_MS)
    assert widget.dock.isVisible()


def test_results_open_and_are_saved_with_their_record(tmp_path, cone_scan):
    written = {"method": {"name": "fdk"}}
    path = write(tmp_path / "result.ome.zarr", cone_scan.truth, cone_scan.grid, written)
    ((values, meta, kind),) = contributions.get_reader(str(path))(str(path))
    assert kind == "image"
    np.testing.assert_array_equal(values, cone_scan.truth)
    (saved,) = contributions.write_volume(str(tmp_path / "again.tif"), values, meta)
    again = read_volume(saved)
    assert again.record == written
    np.testing.assert_allclose(again.grid.origin_mm, cone_scan.grid.origin_mm)


def test_a_result_opened_by_napari_brings_its_scan(session, viewer, qtbot, tmp_path):
    scan = sources.open_scan("sample:cone-beam", {"n": 16, "n_views": 12, "oversample": 1})
    plan = resolve(Choices(method="fdk"), scan)
    *_, finished = run(plan, scan)
    path = write(tmp_path / "kept.ome.zarr", finished.result, plan.grid, record(plan, scan, finished))
    with qtbot.waitSignal(session.choices_restored, timeout=TIMEOUT_MS) as restored:
        viewer.open(str(path), plugin="napari-unroll")
    assert restored.args[0].method == "fdk"
    assert session.scan.provenance.options == scan.provenance.options
    assert [layer.name for layer in session.layers.ours("result")] == ["kept.ome.zarr"]
    assert [layer.name for layer in viewer.layers if layer.visible] == ["kept.ome.zarr"]
