"""The Reconstruct dock: run, finish now, cancel, bad input, preview, results."""

import gc
import shutil
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QApplication, QComboBox, QPushButton
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.cli.keep import keep
from napari_unroll.errors import ParameterError
from napari_unroll.events import Finished, IterationDone, Outcome, PatchDone, Progress, Stop
from napari_unroll.gui import images, jobs, reconstruct_dock
from napari_unroll.gui.compare_dock import CompareDock
from napari_unroll.gui.reconstruct_dock import ReconstructDock
from napari_unroll.gui.worker import Runner
from napari_unroll.io import ome_zarr
from napari_unroll.io.writers import read_volume
from napari_unroll.methods import registry
from napari_unroll.methods.problem import Method, MethodParams, Problem
from napari_unroll.pipeline import away, unfinished
from napari_unroll.pipeline.choose import Row, Verdict
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.sources import open_scan
from napari_unroll.pipeline.telling import begun_at
from tests.gui.conftest import TIMEOUT_MS
from tests.methods import tiny

GATE = threading.Event()


class SlowParams(MethodParams):
    """No choices."""


def slow(problem: Problem, params: SlowParams) -> Iterator[PatchDone | IterationDone]:
    """Eight patches of ones, half of them before the gate opens; then an iteration."""
    nz = problem.shape[0]
    x = torch.zeros(problem.shape)
    problem.estimate.keep(x.clone())
    for i in range(8):
        box = (slice(i * nz // 8, (i + 1) * nz // 8), slice(0, problem.shape[1]), slice(0, problem.shape[2]))
        x[box] = i + 1
        yield PatchDone(box, x[box].numpy(), consistency=0.5)
        yield Progress(i + 1, 8)
        if i == 3:
            GATE.wait(30)
    yield IterationDone(1, 1, residual=0.1, values=x.numpy())
    return x


SLOW = Method(
    name="slow", title="Slow test method", summary="Waits at a gate.", source="none", params=SlowParams, solve=slow,
    patchwise=True,
)  # fmt: skip


@pytest.fixture
def dock(model, qtbot, monkeypatch):
    GATE.clear()
    monkeypatch.setitem(registry.METHODS, "slow", SLOW)
    made = ReconstructDock(model)
    qtbot.addWidget(made)
    yield made
    GATE.set()
    Runner.wait()


def ended(qtbot, dock):
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    return blocker.args[0]


def until_gate(qtbot, dock):
    """Wait until the fourth patch has been shown to the window."""
    qtbot.waitUntil(lambda: dock.session.runner.run.clock.step == 4, timeout=TIMEOUT_MS)


def test_without_a_scan_it_offers_the_sample(dock, qtbot):
    dock.run_button.click()
    assert "open one in the Scan dock" in dock.message.text()
    assert not dock.sample_button.isHidden()
    dock.sample_button.click()
    ended(qtbot, dock)
    assert dock.session.scan is not None
    assert dock.sample_button.isHidden()


@pytest.mark.parametrize("name", ["fdk", "cgls", "tv-fista"])
def test_methods_run_and_leave_their_volume(dock, qtbot, cone_scan, name):
    dock.session.set_scan(cone_scan)
    dock.choose(name)
    if "n_iterations" in dock.method.params.fields:
        dock.method.params.fields["n_iterations"].value = 3
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    layer = dock.session.viewer.layers[f"{cone_scan.name} · {name}"]
    assert np.array_equal(layer.data, finished.result)
    assert layer.metadata["provenance"]["method"]["name"] == name
    assert np.allclose(layer.contrast_limits, np.percentile(cone_scan.truth, [0.5, 99.8]), atol=1e-3)
    assert dock.message.kind == "good"
    if name != "fdk":
        assert len(dock.curve.points("residual")[0]) >= 1


def test_mri_results_are_magnitude_and_phase(dock, qtbot, mri_scan):
    dock.session.set_scan(mri_scan)
    dock.choose("zero-filled")
    dock.run_button.click()
    finished = ended(qtbot, dock)
    names = [layer.name for layer in dock.session.layers.ours("result")]
    assert names[0] == f"{mri_scan.name} · zero-filled"
    assert np.allclose(dock.session.viewer.layers[names[0]].data, np.abs(finished.result))


def test_run_cancel_run(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    dock.run_button.click()
    until_gate(qtbot, dock)
    layer = dock.runs.view.layer
    assert layer.data[:8].min() == 1
    assert layer.data[8:].max() < 1  # the first look
    assert np.nanmax(dock.runs.view.arrived.data) == 0.5
    dock.cancel_button.click()
    assert layer not in dock.session.viewer.layers
    assert "cancelled" in dock.message.text()
    assert not dock.cancel_button.isEnabled()
    GATE.set()
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED
    results = dock.session.layers.ours("result")
    assert len(results) == 1
    assert results[0].data.max() == 8


def test_a_result_that_is_taken_away_ends_its_run(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    dock.run_button.click()
    until_gate(qtbot, dock)
    dock.session.viewer.layers.remove(dock.runs.view.layer)
    assert dock.runs.view is None
    assert "removed" in dock.message.text()
    assert not dock.session.layers.ours("result")
    assert not dock.session.layers.ours("arrived")
    GATE.set()


def test_stages_are_drawn_one_after_the_other(dock):
    for iteration in (10, 20, 1, 2, 3):
        dock._draw_residual(IterationDone(iteration, 20, residual=0.1))
    assert dock.curve.points("residual")[0] == [10, 20, 21, 22, 23]


def test_finish_now_keeps_what_there_is(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    dock.run_button.click()
    until_gate(qtbot, dock)
    dock.finish_button.click()
    GATE.set()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.FINISHED_EARLY
    (layer,) = dock.session.layers.ours("result")
    assert layer.data[:8].min() == 1
    assert layer.data[-1].max() == 0  # the estimate, no longer the first look


def test_a_second_run_keeps_the_first_result(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    for _ in range(2):
        dock.run_button.click()
        ended(qtbot, dock)
    names = [layer.name for layer in dock.session.layers.ours("result")]
    assert names == [f"{cone_scan.name} · fdk", f"{cone_scan.name} · fdk (2)"]


def test_a_failing_method_is_one_sentence(dock, qtbot, cone_scan, monkeypatch):
    def broken(problem, params):
        yield Progress(1, 2)
        raise RuntimeError("device exploded")

    monkeypatch.setitem(registry.METHODS, "slow", Method(**{**SLOW.__dict__, "solve": broken}))
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.FAILED
    assert dock.message.kind == "error"
    assert "device exploded" in dock.message.text()
    assert not dock.session.layers.ours("result")
    assert dock.run_button.isEnabled()


def test_bad_input_is_one_sentence_and_stays(dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.settings.findChild(QComboBox, "patch_size").setEditText("huge")
    dock.run_button.click()
    assert dock.message.kind == "error"
    assert "patch_size" in dock.message.text()
    assert dock.settings.findChild(QComboBox, "patch_size").currentText() == "huge"
    assert not dock.session.runner.busy


def test_preview_reconstructs_a_slab_where_the_viewer_is(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.preview.region.setChecked(True)
    dock.preview.planes.setValue(4)
    dock.session.viewer.dims.set_point(0, cone_scan.grid.origin_mm[0] + 10 * cone_scan.grid.spacing_mm[0])
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    (layer,) = dock.session.layers.ours("result")
    assert layer.data.shape == (4, 16, 16)
    index = (layer.translate[0] - cone_scan.grid.origin_mm[0]) / cone_scan.grid.spacing_mm[0]
    assert np.isclose(index, 8)


def test_a_rectangle_says_which_part_of_the_slab_is_previewed(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.preview.planes.setValue(4)
    dock.preview.inside.setChecked(True)
    assert dock.preview.region.isChecked()
    assert dock.choices().roi[2:] == (4, 12, 4, 12)
    shapes = dock.preview.rectangle.layer
    (_, oy, ox), (_, sy, sx) = cone_scan.grid.origin_mm, cone_scan.grid.spacing_mm
    shapes.data = [np.array([[oy + 1.6 * sy, ox - 9 * sx], [oy + 5.4 * sy, ox + 99 * sx]])]
    assert dock.choices().roi[2:] == (2, 6, 0, 16)
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.result.shape == (4, 4, 16)
    dock.preview.inside.setChecked(False)
    assert shapes not in dock.session.viewer.layers
    assert dock.choices().roi[2:] == (0, 16, 0, 16)


def test_a_large_result_is_a_layer_on_disk_that_can_be_compared(dock, qtbot, cone_scan, monkeypatch):
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(ome_zarr, "LARGE", 8)
    compare = CompareDock(dock.session.viewer)
    qtbot.addWidget(compare)
    dock.session.set_scan(cone_scan)
    dock.choose("sirt")
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    (layer,) = dock.session.layers.ours("result")
    assert layer.multiscale
    np.testing.assert_array_equal(np.asarray(layer.data[0]), finished.result)
    compare.measure()
    measured = ended(qtbot, dock)
    assert measured.outcome is Outcome.COMPLETED, measured.advice
    assert compare.table.item(0, 1).text()


def test_a_large_result_is_kept_on_disk_only_and_saved_from_there(dock, qtbot, cone_scan, monkeypatch, tmp_path):
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(ome_zarr, "LARGE", 8)
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.run_button.click()
    finished = ended(qtbot, dock)
    values, in_memory = finished.result.copy(), weakref.ref(finished.result)
    del finished
    gc.collect()
    assert in_memory() is None
    dock.session.layers.remove("result")
    gc.collect()
    dock.output.save(tmp_path / "large.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "large.npy"), values)


@pytest.mark.parametrize("roi", [(1, 6, 0, 16, 0, 16), (9, 16, 2, 7, 3, 16), (0, 1, 0, 16, 5, 6)])
def test_the_region_of_a_stored_result_keeps_its_place(dock, cone_scan, roi):
    dock.session.set_scan(cone_scan)
    dock.session.layers.turn_to(dock.session.layers.ours("truth"))  # with sixteen planes, where views are twelve
    dock.session.choices_restored.emit(Choices(method="fdk", roi=roi))
    assert dock.choices().roi == roi
    dock.session.choices_restored.emit(Choices(method="fdk"))
    assert dock.choices().roi is None


def test_a_live_preview_follows_the_parameters_in_one_layer(dock, qtbot, cone_scan, monkeypatch):
    monkeypatch.setattr(reconstruct_dock, "LIVE_S", 1000.0)
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.preview.live.setChecked(True)
    with qtbot.waitSignal(dock.session.result_added, timeout=TIMEOUT_MS):
        pass
    dock.method.params.fields["window"].value = "hann"
    with qtbot.waitSignal(dock.session.result_added, timeout=TIMEOUT_MS) as blocker:
        pass
    assert blocker.args[0].record["method"]["params"]["window"] == "hann"
    assert len(dock.session.layers.ours("result")) == 1


def test_a_live_preview_that_would_take_long_switches_itself_off(dock, cone_scan, monkeypatch):
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.preview.live.setChecked(True)
    monkeypatch.setattr(reconstruct_dock, "LIVE_S", 0.0)
    dock.refresh()
    assert not dock.preview.live.isChecked()
    assert "live preview is off" in dock.message.text()
    assert not dock.session.runner.busy


def test_the_estimate_names_device_and_memory(dock, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    plan = dock.estimate()
    assert plan.device in dock.memory.text()
    assert "MiB" in dock.memory.text()


def test_methods_follow_the_scan(dock, cone_scan, mri_scan):
    dock.session.set_scan(cone_scan)
    assert dock.method.list.findData("fdk") >= 0
    assert dock.method.list.findData("zero-filled") < 0
    dock.session.set_scan(mri_scan)
    assert dock.method.list.findData("fdk") < 0
    assert dock.method.list.findData("zero-filled") >= 0


def test_copy_as_command(dock, cone_scan, qtbot):
    dock.session.set_scan(cone_scan)
    dock.choose("tv-fista")
    dock.method.params.fields["n_iterations"].value = 7
    dock.output.copy_button.click()
    text = QApplication.clipboard().text()
    assert text.startswith("napari-unroll reconstruct")
    assert "--method tv-fista" in text
    assert "n_iterations=7" in text


def test_results_are_saved_with_their_record(dock, qtbot, cone_scan, tmp_path):
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.run_button.click()
    finished = ended(qtbot, dock)
    dock.output.save(tmp_path / "result.npy")
    assert np.array_equal(read_volume(tmp_path / "result.npy").values, finished.result)
    dock.output.save(tmp_path / "result.xyz")
    assert dock.message.kind == "error"


def test_arrived_patches_can_be_shown(dock, qtbot, cone_scan):
    dock.session.set_scan(cone_scan)
    dock.choose("slow")
    GATE.set()
    dock.arrived.setChecked(True)
    dock.run_button.click()
    ended(qtbot, dock)
    (layer,) = dock.session.layers.ours("arrived")
    assert layer.visible
    assert layer.data.min() == 0.5


def edges_of(layer):
    """Where a volume begins and ends, in mm."""
    begin = np.array(layer.translate) - 0.5 * np.array(layer.scale)
    return begin, begin + np.array(layer.data.shape) * layer.scale


@pytest.mark.parametrize("n_iterations", [3, 200])
def test_an_equilibrium_leaves_maps_of_its_patches_and_says_how_it_went(dock, qtbot, cone_scan, tmp_path, n_iterations):
    dock.session.set_scan(cone_scan)
    dock.session.use_weights(Path(tiny.weights(tmp_path, cone_scan, "mol-sn")), "mol-sn")
    dock.method.params.fields["n_iterations"].value = n_iterations
    dock.settings.fields["patch_size"].value = 10
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    (result,) = dock.session.layers.ours("result")
    evaluations, residual = dock.session.layers.ours("patches")
    assert (evaluations.name, residual.name) == ("evaluations of patches", "residual of patches")
    assert dock.session.viewer.layers.selection.active is result
    n = finished.fixed_point.figures["evaluations"]
    assert (evaluations.data == n).all()
    assert residual.data.max() > residual.data.min() > 0
    for layer in (evaluations, residual):
        assert not layer.visible
        assert np.allclose(edges_of(layer), edges_of(result))
    converged = n_iterations == 200
    assert finished.fixed_point.converged is converged
    assert dock.message.kind == ("good" if converged else "warning")
    assert ("not converged" in dock.message.text()) is not converged
    assert "On this scan an iteration contracted to" in dock.message.text()
    told = result.metadata["provenance"]["fixed_point"]
    assert told["converged"] is converged
    assert told["evaluations"] == n
    assert told["measured_rate"] <= told["promised_rate"]
    dock.choose("fdk")
    dock.run_button.click()
    assert ended(qtbot, dock).fixed_point is None
    assert not dock.session.layers.ours("patches")


def test_methods_are_compared_on_request(dock, qtbot, cone_scan, monkeypatch):
    dock.method.which_button.click()
    assert "open one in the Scan dock" in dock.message.text()
    verdict = Verdict((Row("cgls", "full", 0.1, 0.01, 2.0, 30.0),), "cgls", "cgls foretells best.")
    asked = []

    def compare(scan, plan, stop):
        asked.append(scan)
        yield Finished(Outcome.COMPLETED, verdict, verdict.text)

    monkeypatch.setattr(reconstruct_dock, "choose", compare)
    dock.session.set_scan(cone_scan)
    dock.method.which_button.click()
    ended(qtbot, dock)
    assert asked == [cone_scan]
    assert "10.00% ± 1.00%" in dock.method.verdict.text()
    assert not dock.method.verdict.isHidden()
    assert dock.message.text() == verdict.text


def test_a_run_into_a_file_goes_on_from_there(dock, qtbot, cone_scan, tmp_path, monkeypatch):
    source, store = tmp_path / "scan.h5", tmp_path / "kept.ome.zarr"
    of_a_layer = replace(cone_scan, provenance=replace(cone_scan.provenance, source=""))
    dock.session.set_scan(of_a_layer)
    dock.choose("tv-fista")
    dock.run(store)
    assert "save it first" in dock.message.text()
    saved = list(jobs.save_scan(source, of_a_layer)(Stop()))[-1].result
    dock.session.set_scan(saved)
    dock.choose("tv-fista")
    dock.method.params.fields["n_iterations"].value = 6
    plan = dock.estimate()
    monkeypatch.setattr(unfinished, "EVERY_S", 0.0)
    work = jobs.kept_reconstruction(plan, saved, None, store)(Stop())
    next(event for event in work if isinstance(event, IterationDone) and event.iteration == 3)
    work.close()
    assert unfinished.is_unfinished(store)
    twin = shutil.copytree(store, tmp_path / "twin.ome.zarr")
    dock.run(store)
    assert "go on with" in ended(qtbot, dock).advice
    dock.session.set_scan(cone_scan)
    dock.go_on(store)
    qtbot.waitUntil(lambda: bool(dock.message.text()) and not dock.session.runner.busy, timeout=TIMEOUT_MS)
    assert "Saved kept.ome.zarr." in dock.message.text()
    whole = list(jobs.reconstruction(plan, saved)(Stop()))[-1].result
    assert np.allclose(read_volume(store).values, whole, atol=1e-6)
    assert np.array_equal(dock.runs.result.values, read_volume(store).values)
    resumed = CliRunner().invoke(app, ["reconstruct", "--resume", str(twin)])
    assert resumed.exit_code == 0, resumed.output
    assert np.allclose(read_volume(twin).values, whole, atol=1e-6)


def test_a_run_in_a_process_of_its_own_streams_in_and_is_cancelled(dock, qtbot, tmp_path, monkeypatch):
    """Click Run, see what comes, let go, take it up again, cancel."""
    store = tmp_path / "away.ome.zarr"
    scan = open_scan("sample:cone-beam", {"n": 16, "n_views": 12, "oversample": 1})
    dock.session.set_scan(scan)
    dock.choose("tv-fista")
    dock.method.params.fields["n_iterations"].value = 5000
    dock.method.params.fields["tolerance"].value = 0.0
    dock.elsewhere.choose("process")
    monkeypatch.setattr(reconstruct_dock, "ask_store", lambda *_: store)
    dock.run_button.click()
    with qtbot.waitSignal(dock.session.runner.run.event, timeout=3 * TIMEOUT_MS, check_params_cb=shows_values):
        pass
    layer = dock.runs.view.layer
    assert layer.visible
    qtbot.waitUntil(lambda: bool(layer.data.any()), timeout=TIMEOUT_MS)
    dock.session.set_scan(scan)
    assert "goes on without this window" in dock.message.text()
    qtbot.waitUntil(lambda: dock.elsewhere.runs.currentText() == "away.ome.zarr: going", timeout=TIMEOUT_MS)
    dock.elsewhere.take_up_button.click()
    qtbot.waitUntil(lambda: dock.runs.view is not None and bool(dock.runs.view.layer.data.any()), timeout=TIMEOUT_MS)
    assert dock.runs.view.layer is not layer
    dock.cancel_button.click()
    assert "cancelled" in dock.message.text()
    qtbot.waitUntil(lambda: not store.exists(), timeout=TIMEOUT_MS)
    qtbot.waitUntil(lambda: not dock.elsewhere.found, timeout=TIMEOUT_MS)


def shows_values(event):
    return isinstance(event, IterationDone) and event.values is not None


def test_a_scan_of_a_layer_is_saved_beside_the_store_for_another_process(dock, qtbot, cone_scan, tmp_path, monkeypatch):
    store = tmp_path / "away.ome.zarr"
    asked = []

    def begin(words, store, queue):
        asked.append(words)
        raise ParameterError("No process could be started.")

    monkeypatch.setattr(away, "start", begin)
    dock.session.set_scan(replace(cone_scan, provenance=replace(cone_scan.provenance, source="")))
    dock.choose("fdk")
    dock.elsewhere.choose("process")
    dock.run(store)
    qtbot.waitUntil(lambda: bool(asked) and not dock.session.runner.busy, timeout=TIMEOUT_MS)
    assert dock.message.text() == "No process could be started."
    words = asked[0]
    assert words[:2] == ["reconstruct", str(tmp_path / "away.scan.h5")]
    assert words[-2:] == ["--out", str(store)]
    assert np.array_equal(open_scan(words[1]).measurements, cone_scan.measurements)


def test_what_was_interrupted_or_is_finished_elsewhere_is_listed_and_taken_up(
    dock, qtbot, cone_scan, tmp_path, monkeypatch
):
    of_a_layer = replace(cone_scan, provenance=replace(cone_scan.provenance, source=""))
    scan = list(jobs.save_scan(tmp_path / "scan.h5", of_a_layer)(Stop()))[-1].result
    plan = resolve(Choices(method="tv-fista", params={"n_iterations": 6}, device="cpu"), scan)
    monkeypatch.setattr(unfinished, "EVERY_S", 0.0)
    store = tmp_path / "kept.ome.zarr"
    work = jobs.kept_reconstruction(plan, scan, None, store, again=False)(Stop())
    next(event for event in work if isinstance(event, IterationDone) and event.iteration == 3)
    work.close()
    folder = away.folder_of_notes() / "one"
    folder.mkdir(parents=True)
    note = away.Note(store=str(store), where="process", host="elsewhere", started="2026-01-01")
    (folder / away.NOTE).write_text(note.model_dump_json())
    monkeypatch.setattr(away, "start", lambda *_: away.Away(folder, note))  # killed as soon as it begins
    dock.elsewhere.choose("process")
    dock.go_on(store)
    qtbot.waitUntil(lambda: "ended without a word" in dock.message.text(), timeout=TIMEOUT_MS)
    assert dock.message.kind == "error"
    qtbot.waitUntil(lambda: dock.elsewhere.runs.currentText() == "kept.ome.zarr: interrupted", timeout=TIMEOUT_MS)
    dock.elsewhere.choose("here")
    dock.elsewhere.take_up_button.click()
    qtbot.waitUntil(lambda: "Saved kept.ome.zarr." in dock.message.text(), timeout=TIMEOUT_MS)
    dock.elsewhere.list_runs()
    qtbot.waitUntil(lambda: dock.elsewhere.runs.currentText() == "kept.ome.zarr: finished", timeout=TIMEOUT_MS)
    before = set(dock.session.viewer.layers)
    dock.elsewhere.take_up_button.click()
    qtbot.waitUntil(lambda: not before.issuperset(dock.session.viewer.layers), timeout=TIMEOUT_MS)
    qtbot.waitUntil(lambda: not dock.elsewhere.found, timeout=TIMEOUT_MS)


def test_a_run_that_somebody_else_is_at_is_watched_and_finished(dock, qtbot, cone_scan, tmp_path):
    """Never begun twice: the command line keeps it, in another thread here, and the dock's Finish now reaches it."""
    of_a_layer = replace(cone_scan, provenance=replace(cone_scan.provenance, source=""))
    scan = list(jobs.save_scan(tmp_path / "scan.h5", of_a_layer)(Stop()))[-1].result
    plan = resolve(Choices(method="tv-fista", params={"n_iterations": 5000, "tolerance": 0.0}, device="cpu"), scan)
    store = tmp_path / "kept.ome.zarr"
    other = threading.Thread(target=keep, args=(plan, scan, store, False), daemon=True)
    other.start()
    qtbot.waitUntil(lambda: begun_at(store) is not None, timeout=TIMEOUT_MS)
    dock.go_on(store)
    qtbot.waitUntil(lambda: dock.runs.view is not None and bool(dock.runs.view.layer.data.any()), timeout=TIMEOUT_MS)
    dock.finish_button.click()
    qtbot.waitUntil(lambda: dock.runs.result is not None, timeout=TIMEOUT_MS)
    other.join()
    volume = read_volume(store)
    assert "finished early" in dock.message.text()
    assert "PSNR" in dock.message.text()
    assert np.array_equal(dock.runs.result.values, volume.values)
    assert dock.runs.result.record == volume.record


def test_a_finished_store_is_replaced_by_a_run_elsewhere_and_stays_where_that_fails(
    dock, qtbot, cone_scan, tmp_path, monkeypatch
):
    store = tmp_path / "kept.ome.zarr"
    dock.session.set_scan(list(jobs.save_scan(tmp_path / "scan.h5", cone_scan)(Stop()))[-1].result)
    dock.choose("fdk")
    dock.run(store)
    assert ended(qtbot, dock).outcome is Outcome.COMPLETED
    first = read_volume(store)
    dock.elsewhere.choose("process")
    dock.choose("cgls")
    dock.run(store)
    assert "exists already" in ended(qtbot, dock).advice
    monkeypatch.setattr(reconstruct_dock, "ask_store", lambda *_: store)
    with monkeypatch.context() as broken:
        broken.setattr(away, "words_of", lambda *_: ["reconstruct", "no such file"])
        dock.run_button.click()
        assert ended(qtbot, dock).outcome is Outcome.FAILED
    assert dock.message.kind == "error"
    assert np.array_equal(read_volume(store).values, first.values)
    dock.run_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    assert read_volume(store).record["method"]["name"] == "cgls"
    assert np.array_equal(read_volume(store).values, dock.runs.result.values)


def test_a_store_that_the_dialog_asked_to_replace_is_replaced(dock, qtbot, cone_scan, tmp_path, monkeypatch):
    store = tmp_path / "kept.ome.zarr"
    dock.session.set_scan(list(jobs.save_scan(tmp_path / "scan.h5", cone_scan)(Stop()))[-1].result)
    dock.choose("fdk")
    ask = next(b for b in dock.findChildren(QPushButton) if b.text() == "Run into a file…")
    chosen = [store]
    monkeypatch.setattr(reconstruct_dock, "ask_store", lambda *_: chosen[-1])
    ask.click()
    assert ended(qtbot, dock).outcome is Outcome.COMPLETED
    dock.run(store)
    assert "exists already" in ended(qtbot, dock).advice
    dock.choose("cgls")
    dock.method.params.fields["n_iterations"].value = 2
    ask.click()
    assert ended(qtbot, dock).outcome is Outcome.COMPLETED
    assert read_volume(store).record["method"]["name"] == "cgls"
    assert np.array_equal(read_volume(store).values, dock.runs.result.values)
    chosen.append(tmp_path / "kept.tif")
    ask.click()
    assert "ends with .ome.zarr" in dock.message.text()
    assert not dock.session.runner.busy


def test_the_command_of_a_result_is_that_of_its_run_whatever_is_shown_now(dock, qtbot, cone_scan):
    dock.output.copy_result()
    assert dock.message.kind == "warning"
    dock.session.set_scan(cone_scan)
    dock.choose("fdk")
    dock.preview.region.setChecked(True)
    dock.preview.planes.setValue(4)
    dock.session.layers.viewpoint.go_to(cone_scan.grid, (4, 8, 8))
    dock.run_button.click()
    ended(qtbot, dock)
    made = dock.runs.result.record["command"]
    first = dock.session.viewer.layers.selection.active
    dock.session.layers.viewpoint.go_to(cone_scan.grid, (10, 8, 8))
    dock.output.copy_command()
    assert QApplication.clipboard().text() != made
    dock.output.result_button.click()
    assert QApplication.clipboard().text() == made
    dock.preview.region.setChecked(False)
    dock.run_button.click()
    ended(qtbot, dock)
    dock.output.result_button.click()
    assert QApplication.clipboard().text() == dock.runs.result.record["command"] != made
    dock.session.viewer.layers.selection.active = first
    dock.output.result_button.click()
    assert QApplication.clipboard().text() == made
