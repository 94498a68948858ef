"""The Train dock: real trainings of seconds, their plots and weights, bad input, going on, and the end of the dock."""

import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QPushButton

from napari_unroll.events import IterationDone, Outcome, Pictures
from napari_unroll.gui import train_form, train_jobs
from napari_unroll.gui.reconstruct_dock import ReconstructDock
from napari_unroll.gui.train_dock import TrainDock
from napari_unroll.gui.worker import Runner
from napari_unroll.io.scan_file import read_scan
from napari_unroll.methods.weights import load_network
from tests.gui.conftest import TIMEOUT_MS

N_STEPS = 4


@pytest.fixture
def dock(model, qtbot, monkeypatch, tmp_path):
    monkeypatch.setattr(train_form, "HOME", tmp_path / "home")
    monkeypatch.setattr(train_form, "UNLIMITED_STEPS", N_STEPS)
    made = TrainDock(model)
    qtbot.addWidget(made)
    tiny(made)
    yield made
    Runner.wait()


def tiny(dock):
    """The smallest training that there is."""
    form = dock.form
    form.more.fields["size"].value = 16
    form.more.fields["n_objects"].value = 1
    form.more.fields["n_held_out"].value = 1
    form.levels.value = "12"
    form.effort.fields["patch"].value = 8
    form.network.fields["n_iterations"].value = 1
    form.network.fields["start_iterations"].value = 0
    form.options.fields["log_every"].value = 1
    form.options.fields["validate_every"].value = 2


def ended(qtbot, dock):
    with qtbot.waitSignal(dock.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    return blocker.args[0]


def until_a_step(qtbot, dock):
    """Wait until a step's loss has been shown."""
    qtbot.waitUntil(lambda: bool(dock.loss.points("loss")[0]), timeout=TIMEOUT_MS)


def test_a_training_ends_in_weights_that_reconstruct(dock, qtbot, cone_scan):
    reconstruct = ReconstructDock(dock.session.viewer)
    qtbot.addWidget(reconstruct)
    seen = []
    dock.start_button.click()
    assert not dock.start_button.isEnabled()
    assert not dock.form.isEnabled()
    dock.runner.run.event.connect(seen.append)
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    assert load_network(finished.result).n_iterations == 1
    assert len(dock.loss.points("loss")[0]) == N_STEPS
    assert len(dock.psnr.points("network")[0]) == len(dock.psnr.points("start (not learned)")[0]) >= 2
    assert any(isinstance(e, Pictures) for e in seen)
    assert list(dock.slices.images) == ["truth", "before", "after"]
    found = [e.metrics for e in seen if isinstance(e, IterationDone) and "psnr" in e.metrics]
    best = max(m["psnr"] for m in found)
    assert f"Gain {best - found[0]['psnr_start']:+.2f} dB" in dock.message.text()
    dock.session.set_scan(cone_scan)
    dock.use_button.click()
    assert reconstruct.choices().method == "unrolled-pgd"
    assert reconstruct.choices().params["weights"] == str(finished.result)


def test_stop_keeps_the_best_and_resume_goes_on(dock, qtbot, monkeypatch):
    monkeypatch.setattr(train_form, "UNLIMITED_STEPS", 10**6)
    dock.start_button.click()
    until_a_step(qtbot, dock)
    assert "per step" in dock.numbers.text()
    dock.stop_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.FINISHED_EARLY, finished.advice
    assert finished.result.is_file()
    before = dock.loss.points("loss")[0][-1]
    dock.resume_button.click()
    until_a_step(qtbot, dock)
    assert dock.loss.points("loss")[0][0] > before
    dock.cancel_button.click()
    assert "Resume" in dock.message.text()
    assert dock.resume_button.isEnabled()


def test_a_training_outlives_another_scan_and_ends_with_its_dock(dock, qtbot, qapp, monkeypatch, cone_scan):
    monkeypatch.setattr(train_form, "UNLIMITED_STEPS", 10**6)
    closing = TrainDock(dock.session.viewer)
    tiny(closing)
    closing.start_button.click()
    until_a_step(qtbot, closing)
    run, runner = closing.runner.run, closing.runner
    closing.session.set_scan(cone_scan)
    assert runner.busy
    closing.deleteLater()
    qapp.sendPostedEvents(closing, QEvent.Type.DeferredDelete)
    assert run.stop.cancelled
    assert not runner.busy


def test_defaults_follow_the_scan(dock, cone_scan, mri_scan):
    assert not dock.fine_tune_button.isEnabled()
    dock.session.set_scan(mri_scan)
    assert dock.form.order().plan.modality == "mri"
    dock.session.set_scan(cone_scan)
    order = dock.form.order()
    assert order.plan.modality == "ct"
    assert order.scanner is cone_scan
    assert dock.fine_tune_button.isEnabled()


def test_fine_tuning_is_one_click(dock, qtbot, monkeypatch, cone_scan):
    monkeypatch.setattr(train_form, "UNLIMITED_STEPS", 1)
    dock.session.set_scan(cone_scan)
    dock.form.levels.value = ""
    dock.fine_tune_button.click()
    finished = ended(qtbot, dock)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    plan = train_jobs.stored_plan(finished.result.parent)
    assert plan.initial == "cone-beam"
    assert read_scan(plan.scanner).geometry == cone_scan.geometry


def test_a_taken_folder_is_not_overwritten(dock, qtbot, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / train_jobs.PLAN).write_text("{}")
    dock.form.out.value = mine
    assert dock.resume_button.isEnabled()
    dock.start_button.click()
    assert dock.message.kind == "error"
    assert "Resume" in dock.message.text()
    assert not dock.runner.busy


def test_the_suggested_folder_is_numbered_when_taken(dock):
    taken = dock.form.suggested
    taken.mkdir(parents=True)
    (taken / train_jobs.PLAN).write_text("")
    dock.form.fresh_folder()
    assert dock.form.out_path() == taken.with_name("trained-2")


@pytest.mark.parametrize(
    ("field", "text", "word"),
    [
        ("levels", "many", "levels"),
        ("out", "", "output folder"),
        ("volumes", "/nowhere", "data"),
        ("patch", "2", "patch"),
    ],
)
def test_bad_input_is_one_sentence(dock, field, text, word):
    form = dock.form
    fields = {"out": form.out.line_edit, "levels": form.levels, **form.plan.fields, **form.effort.fields}
    fields[field].value = text
    dock.start_button.click()
    assert dock.message.kind == "error"
    assert word in dock.message.text()
    assert not dock.runner.busy


def test_levels_are_checked_while_they_are_typed(dock, qtbot):
    levels, said = dock.form.levels.native, dock.form.wrong_levels
    levels.clear()
    for typed, word in (
        ("3", ""),
        ("0, x", "'x'"),
        ("", ""),
        ("0.5", "greater than or equal to 1"),
        ("", ""),
        ("2.5", "whole"),
    ):
        if not typed:
            levels.clear()
        qtbot.keyClicks(levels, typed)
        assert word in said.text()
        assert said.isHidden() == (not word)
    dock.form.plan.fields["modality"].value = "mri"
    assert said.isHidden()
    assert dock.form.order().plan.levels == (2.5,)


def test_a_failure_in_the_thread_is_one_sentence(dock, qtbot, tmp_path):
    dock.form.plan.fields["volumes"].value = str(tmp_path)
    dock.start_button.click()
    assert ended(qtbot, dock).outcome is Outcome.FAILED
    assert dock.message.kind == "error"
    assert dock.start_button.isEnabled()


@pytest.mark.parametrize(
    ("preset", "channels"), [("compact", (16, 32, 64, 128)), ("paper", (64, 128, 256, 512))]
)  # fmt: skip
def test_every_answer_reaches_the_plan(dock, tmp_path, preset, channels):
    form = dock.form
    form.plan.fields["method"].value = "drunet"
    form.plan.fields["scans"].value = str(tmp_path)
    form.effort.fields["size"].value = preset
    form.effort.fields["time"].value = 7
    form.noise.fields["coil_correlation"].value = 0.5
    plan = form.order().plan
    assert (plan.method, plan.scans, plan.volumes) == ("drunet", str(tmp_path), None)
    assert plan.network.prior.channels == channels
    assert not plan.network.has_data_steps
    assert plan.options.max_seconds == 420
    assert plan.options.patch_size == (8, 8, 8)
    assert plan.levels == (12,)
    assert plan.noise.coil_correlation == 0.5


def test_rows_without_a_point_are_hidden(dock, tmp_path):
    plan, effort = dock.form.plan, dock.form.effort
    assert plan._rows.isRowVisible(plan.fields["volumes"].native)
    plan.fields["initial"].value = "my.safetensors"
    assert not effort._rows.isRowVisible(effort.fields["size"].native)
    plan.fields["scans"].value = str(tmp_path)
    for name in ("scanner", "volumes"):
        assert not plan._rows.isRowVisible(plan.fields[name].native)


def test_shipped_weights_are_offered_for_what_they_fit(dock, cone_scan, mri_scan):
    dock.session.set_scan(cone_scan)
    initial = dock.form.plan.fields["initial"]
    initial.value = dock.form.shipped()[0]
    assert dock.form.order().plan.initial == "cone-beam"
    dock.session.set_scan(mri_scan)
    assert initial.value is None
    initial.value = "my.safetensors"
    dock.session.set_scan(cone_scan)
    assert initial.value == "my.safetensors", "a file of the user's stays"


def test_patches_are_what_suits_the_method_unless_one_is_asked_for(dock, mri_scan):
    dock.session.set_scan(mri_scan)
    assert dock.form.training_options().patch_size == (8, 8, 8)
    dock.form.effort.fields["patch"].value = None
    assert dock.form.training_options().patch_size == (8, 96, 96)


def test_every_button_explains_itself(dock):
    assert all(b.toolTip() for b in dock.findChildren(QPushButton))
