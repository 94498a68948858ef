"""The Train dock: learn the weights of a network in the background, watch it learn, use it at once.

Wires the form to ``training.session.train`` by way of ``train_jobs``; no numerics. Trains with a runner of its own, so that
loading a scan or reconstructing meanwhile does not end a training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.compat import isalive

from napari_unroll.errors import UnrollError
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Pictures, Warned
from napari_unroll.gui import parts, train_jobs
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.slices import Slices
from napari_unroll.gui.theme import Theme
from napari_unroll.gui.train_form import Effort, TrainForm, path_in
from napari_unroll.gui.train_jobs import Order
from napari_unroll.gui.worker import Runner
from napari_unroll.pipeline.memory import gib

KEPT = "The checkpoint stays in the folder; Resume goes on from it."


class TrainDock(parts.DockFrame):
    """What to train; Start, Stop, Cancel, Resume; loss, PSNR and slices while it runs."""

    heading = "Train"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-train")
        self.weights: Path | None = None
        self._method, self._gain = "", ""
        self.runner = self.session.training
        self.form = TrainForm(self.session)
        self.remembered.form("effort", self.form.effort, Effort(device=preferences().device))
        self.body.addWidget(parts.Section("What to train", self.form))
        self._build_buttons()
        self._build_progress()
        self.body.addStretch(1)
        self.form.changed.connect(self._enable)
        self.form.out.changed.connect(self._enable)
        self.session.scan_changed.connect(self._enable)
        self.runner.busy_changed.connect(self._enable)
        self.destroyed.connect(_stopper(self.runner))
        self._enable()

    def _build_buttons(self) -> None:
        self.fine_tune_button = parts.button(
            "Fine-tune on this scan", self.fine_tune,
            "Train the shipped weights further for this scan's scanner, with the time and folder above.", "fine-tune",
        )  # fmt: skip
        self.start_button = parts.button("Start", self.start, "Train in the background.", "start")
        self.stop_button = parts.button(
            "Stop", self.finish, "End soon; the best weights so far are kept and can be used.", "stop"
        )
        self.cancel_button = parts.button("Cancel", self.cancel, "Give up at once; the checkpoint stays.", "cancel")
        self.resume_button = parts.button("Resume", self.resume, "Go on with the training in the folder.", "resume")
        self.body.addWidget(self.fine_tune_button)
        self.body.addWidget(
            parts.row(self.start_button, self.stop_button, self.cancel_button, self.resume_button, stretch=(1,) * 4)
        )

    def _build_progress(self) -> None:
        viewer = self.session.viewer
        self.progress = parts.RunBar(self.runner)
        self.numbers = parts.Wrapped()
        self.loss = Curve(viewer, "step", "loss", log=True, height=150)
        self.psnr = Curve(viewer, "step", "PSNR (dB)", height=150)
        self.slices = Slices(Theme(viewer))
        self.caption = parts.Wrapped()
        self.use_button = parts.button(
            "Use in Reconstruct", self.use, "Reconstruct the next scan with these weights.", "use"
        )
        for widget in (self.progress, self.numbers, self.loss, self.psnr, self.slices, self.caption, self.use_button):
            self.body.addWidget(widget)

    def _enable(self, *_: Any) -> None:
        busy = self.runner.busy
        self.form.setEnabled(not busy)
        self.start_button.setEnabled(not busy)
        self.stop_button.setEnabled(busy)
        self.cancel_button.setEnabled(busy)
        self.fine_tune_button.setEnabled(not busy and self.session.scan is not None)
        folder = path_in(self.form.out)
        self.resume_button.setEnabled(not busy and folder is not None and train_jobs.is_taken(folder))
        self.use_button.setVisible(self.weights is not None)
        if not busy:
            self.progress.reset()

    # running

    def start(self) -> None:
        """Train what the form says."""
        self._try(self._begin_new)

    def fine_tune(self) -> None:
        """Shipped weights, this scan's scanner, and start."""
        self._try(self.form.fine_tune, self._begin_new)

    def resume(self) -> None:
        """Go on with the plan in the folder, for the time in the form."""
        self._try(self._begin_again)

    def _try(self, *steps: Callable[[], None]) -> None:
        try:
            for step in steps:
                step()
        except UnrollError as error:
            self.message.error(error)

    def _begin_new(self) -> None:
        self.form.fresh_folder()
        self._begin(self.form.order())

    def _begin_again(self) -> None:
        out = self.form.out_path()
        plan = train_jobs.stored_plan(out)
        budget = plan.options.model_copy(update={"max_seconds": self.form.training_options().max_seconds})
        self._begin(Order(plan.model_copy(update={"options": budget}), out, self.form.device))

    def _begin(self, order: Order) -> None:
        self.message.say("")
        self.loss.clear_curves()
        self.psnr.clear_curves()
        self.slices.show_images({})
        for text in (self.numbers, self.caption):
            text.setText("")
        self.weights, self._method, self._gain = None, order.plan.method, ""
        run = self.runner.start(train_jobs.training(order), "training")
        run.event.connect(self._on_event)
        run.finished.connect(self._on_finished)
        self._enable()
        self.progress.start()

    def finish(self) -> None:
        """Stop and keep the best weights."""
        self.runner.finish_now()
        self.stop_button.setEnabled(False)
        self.message.say("Stopping …")

    def cancel(self) -> None:
        """Give the training up; what is on disk stays."""
        self.runner.cancel()

    # what comes

    def _on_event(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            self._show_numbers(event)
        elif isinstance(event, Pictures):
            self.slices.show_images(event.images)
        elif isinstance(event, Warned):
            self.message.say(event.text, "warning")

    def _show_numbers(self, event: IterationDone) -> None:
        m = event.metrics
        if "loss" in m:
            self.loss.add("loss", event.iteration, m["loss"])
            pace = [f"{parts.seconds(m['seconds_per_step'])} per step"] if "seconds_per_step" in m else []
            memory = [f"{gib(int(m['peak_memory_bytes']))} at most"] if m.get("peak_memory_bytes") else []
            self.numbers.setText(", ".join(pace + memory))
        if "psnr" in m:
            self.psnr.add("network", event.iteration, m["psnr"])
            self._show_start(event.iteration, m.get("psnr_start"))

    def _show_start(self, step: int, start: float | None) -> None:
        """The start's PSNR as a level line beneath the network's, and the gain in words."""
        if start is None:
            return
        best = max(self.psnr.points("network")[1])
        self.psnr.add("start (not learned)", step, start)
        self._gain = f"Gain {best - start:+.2f} dB."
        self.caption.setText(f"Best so far {best:.2f} dB on held-out scans. {self._gain}")

    def _on_finished(self, finished: Finished) -> None:
        done = isinstance(finished.result, Path)
        self.weights = finished.result if done else None
        kind = {Outcome.FAILED: "error"}.get(finished.outcome, "good" if done else "info")
        advice = f"{finished.advice} {KEPT}" if finished.outcome is Outcome.CANCELLED else finished.advice
        if done:
            advice = f"{advice} {self._gain}".strip()
            self.caption.setText("")
            self.session.add_weights(finished.result)
        self._enable()
        self.progress.end(complete=done)
        self.message.say(advice, kind)

    def use(self) -> None:
        """Choose these weights in the Reconstruct dock."""
        if self.weights is not None:
            self.session.use_weights(self.weights, self._method)
            self.message.say("The Reconstruct dock uses these weights now.", "good")


def _stopper(runner: Runner) -> Callable[..., None]:
    """Stops the training when the dock dies; knows the runner only, for the dock is gone by then."""
    return lambda *_: runner.cancel() if isalive(runner) else None
