"""The Reconstruct dock: choose a method, run it in the background, watch the result stream into one layer.

Wires forms to ``pipeline.resolve`` and to what runs reconstructions; no numerics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFileDialog
from superqt.utils import QSignalDebouncer

from napari_unroll.errors import ParameterError, UnrollError
from napari_unroll.events import Finished, IterationDone, duration
from napari_unroll.gui import jobs, parts
from napari_unroll.gui.away_jobs import AwayRun, Found, begun, gone_on
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.elsewhere import ElsewhereBox
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.method_box import MethodBox
from napari_unroll.gui.output_box import OutputBox
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.preview_box import LIVE_S, PreviewBox
from napari_unroll.gui.reconstructions import Reconstructions
from napari_unroll.gui.result_view import ResultView
from napari_unroll.gui.store_dialog import ask_store
from napari_unroll.gui.worker import Run
from napari_unroll.methods import registry
from napari_unroll.pipeline.choose import Verdict, choose
from napari_unroll.pipeline.devices import probe
from napari_unroll.pipeline.memory import gib
from napari_unroll.pipeline.plan import Choices, Plan, fit_options, resolve
from napari_unroll.pipeline.spoken import changed_fit
from napari_unroll.scan.scan import Scan

KEYS = {"run": "Ctrl+Return", "finish": "Ctrl+Shift+Return", "cancel": "Ctrl+."}
"""Button → shortcut; none of napari's own."""
NO_SCAN = "There is no scan yet: open one in the Scan dock, or take the sample."
NO_FILE = "This scan is in no file, so a run of it could not go on: save it first (Copy as command asks where)."
NO_STORE = "A run is kept in a store whose name ends with .ome.zarr;"


class ReconstructDock(parts.DockFrame):
    """Method, its parameters, memory and device; Run, Finish now, Cancel; the result streams into the viewer."""

    heading = "Reconstruct"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-reconstruct")
        self.runs = Reconstructions(self.session, self)
        self._live_run: Run | None = None
        self._live_layer: Any = None
        self._devices = probe()
        self._estimating = QSignalDebouncer(parent=self)
        self._estimating.setTimeout(150)
        self._offset, self._last_iteration = 0.0, 0
        self.method = MethodBox(self.session)
        self.preview = PreviewBox(self.session)
        self.body.addWidget(self.method)
        self._build_settings()
        self._build_run()
        self._build_result()
        self.body.addStretch(1)
        self._connect()
        self._on_busy(self.session.runner.busy)
        self.show_scan(self.session.scan)

    def _connect(self) -> None:
        self._estimating.triggered.connect(self.estimate)
        self.method.changed.connect(self._later)
        self.method.comparison_wanted.connect(self.compare)
        self.preview.changed.connect(self._later)
        self.preview.refresh_wanted.connect(self.refresh)
        self.elsewhere.taken_up.connect(self.go_on)
        self.output.said.connect(self.message.say)
        self.runs.began.connect(self._on_began)
        self.runs.said.connect(self.message.say)
        self.runs.iterated.connect(self._draw_residual)
        self.runs.ended.connect(self._on_ended)
        self.runs.unwatched.connect(self.elsewhere.list_soon)
        self.session.scan_changed.connect(self.show_scan)
        self.session.weights_chosen.connect(self.use_weights)
        self.session.choices_restored.connect(self.show_choices)
        self.session.runner.busy_changed.connect(self._on_busy)

    def _build_settings(self) -> None:
        names = {"device": ["auto", *(d.name for d in self._devices)]}
        skip = ("method", "params", "weights", "fit", "roi")
        self.settings = RecordForm(Choices, skip=skip, choices=names)
        preferred = preferences()
        self.remembered.form("settings", self.settings, Choices(device=preferred.device, precision=preferred.precision))
        self.settings.changed.connect(self._later)
        self.memory = parts.Wrapped()
        self.body.addWidget(parts.Fold("Patches, device, precision", self.settings))
        self.body.addWidget(self.preview)
        self.body.addWidget(self.memory)

    def _build_run(self) -> None:
        self.run_button = parts.button("Run", self.run, "Reconstruct in the background.", "run")
        self.finish_button = parts.button("Finish now", self.runs.finish_now, "End soon with what there is.", "finish")
        self.cancel_button = parts.button("Cancel", self.runs.cancel, "Give the run up.", "cancel")
        self.sample_button = parts.button(
            "Use the sample scan", self.use_sample, "A generated cone-beam scan, 50 views."
        )
        into = parts.button(
            "Run into a file…",
            self._ask_store,
            "Keep the run in an OME-Zarr store while it goes: killed, it can go on.",
        )
        go_on = parts.button(
            "Go on with a run…",
            self._ask_kept,
            "Take up a run that was interrupted, of a window or of the command line.",
        )
        for pressed, keys in KEYS.items():
            parts.shortcut(getattr(self, f"{pressed}_button"), keys)
        self.progress = parts.RunBar(self.session.runner)
        self.curve = Curve(self.session.viewer, "iteration", "relative residual", log=True)
        self.body.addWidget(parts.row(self.run_button, self.finish_button, self.cancel_button, stretch=(1, 1, 1)))
        self.body.addWidget(parts.row(into, go_on, stretch=(1, 1)))
        self.elsewhere = ElsewhereBox(self.remembered)
        self.body.addWidget(self.elsewhere)
        self.body.addWidget(self.sample_button)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.curve)

    def _build_result(self) -> None:
        self.arrived = QCheckBox("Show which patches have arrived")
        self.arrived.setToolTip(
            "Colour: relative distance of each patch from the data; dark is consistent, uncoloured has not arrived."
        )
        self.arrived.toggled.connect(self._show_arrived)
        self.output = OutputBox(self.session, self.runs, self.planned)
        self.body.addWidget(self.arrived)
        self.body.addWidget(self.output)

    # choices

    def show_scan(self, scan: Scan | None) -> None:
        """Offer the methods that apply to this scan."""
        self.preview.show_scan(scan)
        self.sample_button.setVisible(scan is None)
        self.method.show_scan(scan)

    def choose(self, method: str) -> None:
        """Select a method by name; raises ParameterError for one that does not apply."""
        self.method.choose(method)

    def use_weights(self, path: str, method: str) -> None:
        """Choose ``method``, with these weights."""
        try:
            self.method.use_weights(path, method)
        except ParameterError as error:
            self.message.error(error)
            return
        self.message.say(f"Reconstructs with {Path(path).stem}; press Run.")

    def show_choices(self, choices: Choices) -> None:
        """Fill the forms with the choices of a stored result."""
        self.method.show_wishes(choices.method, choices.params)
        self.settings.set_value(choices.model_copy(update={"roi": None, "fit": {}}))
        self.session.fit_options = fit_options(choices)
        self.preview.show_roi(choices.roi)
        self.message.say("The choices of the stored result are restored; Run makes it again.")

    def choices(self) -> Choices:
        """What the user wishes; raises ParameterError with one sentence where a field is wrong."""
        settings: Choices = self.settings.value()
        wishes = {**self.method.wishes(), "roi": self.preview.roi()}
        return settings.model_copy(update={**wishes, **self._fit(settings, wishes["params"])})

    def _fit(self, settings: Choices, params: dict[str, Any]) -> dict[str, Any]:
        """The options of the last fit or of a stored result, where the method needs one and no other form is asked for."""
        options, method = self.session.fit_options, self.method.chosen
        if options is None or method is None or settings.normal not in ("auto", options.form):
            return {}
        needed = method.needs_normal is not None and method.needs_normal(method.params(**params))
        return {"normal": options.form, "fit": changed_fit(options)} if needed else {}

    def _factors(self, plan: Plan) -> Any:
        """The fitted operator of the Normal operator dock, where the plan's fit would make the same."""
        return self.session.factors if plan.fit == self.session.fit_options else None

    def _later(self, *_: Any) -> None:
        method = self.method.chosen
        if method is not None:
            self.arrived.setVisible(method.patchwise)
        self._estimating.throttle()
        self.preview.note_change()

    def refresh(self) -> None:
        """Preview again in place of the last preview; too slow a method ends that, with one sentence."""
        scan, run = self.session.scan, self.session.runner.run
        if run is not None and not run.over and run is not self._live_run:
            self.preview.note_change()
            return
        plan = self.estimate()
        if plan is None or scan is None:
            return
        seconds = self._seconds(plan)
        if seconds > LIVE_S:
            self._end_live(f"{plan.title} would take {duration(seconds)} each time.")
            return
        shown = self._live_layer
        self._live_run = self.runs.here(plan, scan, self._factors(plan))
        view = self.runs.view
        assert view is not None
        self._live_run.finished.connect(lambda finished: self._replace(shown, view, finished))
        self._live_run.event.connect(self._end_slow_live)

    def _end_slow_live(self, *_: Any) -> None:
        """What takes longer than was foretold is not made again either."""
        run = self._live_run
        if run is not None and self.preview.live.isChecked() and run.clock.elapsed_s > LIVE_S:
            self._end_live(f"this preview takes longer than {duration(LIVE_S)}.")

    def _end_live(self, why: str) -> None:
        self.preview.live.setChecked(False)
        self.message.say(f"The live preview is off: {why}")

    def _replace(self, shown: Any, view: ResultView, finished: Finished) -> None:
        """The new preview is there; the last one goes."""
        if finished.result is None:
            return
        self._live_layer = view.layer
        if shown is not None and shown in self.session.viewer.layers:
            self.session.viewer.layers.remove(shown)

    def _seconds(self, plan: Plan) -> float:
        """What the plan is expected to take with what is fitted already."""
        return plan.expected_with(self._factors(plan)).seconds

    def planned(self) -> Plan:
        """What Run would do now; raises UnrollError where there is no scan, or the choices do not fit it."""
        scan = self.session.scan
        if scan is None:
            raise ParameterError(NO_SCAN)
        return resolve(self.choices(), scan, self._devices)

    def estimate(self) -> Plan | None:
        """Show what the choices mean: patch, memory, device. Returns the plan, None where the choices do not fit."""
        if self.session.scan is None:
            self.memory.setText("")
            return None
        try:
            plan = self.planned()
        except UnrollError as error:
            self.memory.setText(str(error))
            return None
        patch = " × ".join(map(str, plan.patch_size))
        what = f"patches {patch}, overlap {plan.overlap}, " if registry.get(plan.method).patchwise else ""
        expected = plan.expected_with(self._factors(plan))
        memory = f"about {gib(plan.memory_bytes)} of {gib(plan.free_bytes)} free"
        takes = f"{plan.place}: {what}{memory}, {expected.text}."
        self.memory.setText("\n".join([takes, *plan.cautions]))
        return plan

    # running

    def run(self, store: Path | None = None, *, overwrite: bool = False) -> None:
        """Resolve the choices and start; the run is kept in ``store`` while it goes, where one is given.

        A store that is there already is refused, unless ``overwrite`` lets the result take its place at the end.
        """
        scan = self.session.scan
        if scan is None:
            self.message.say(NO_SCAN, "warning")
        elif store is None and not self.elsewhere.is_here:
            self._ask_store()
        elif store is not None and not store.name.endswith(".ome.zarr"):
            self.message.say(f"{NO_STORE} got {store.name!r}.", "warning")
        elif store is not None and not scan.provenance.source:
            self._run_unsaved(store, scan, overwrite)
        else:
            self._run(scan, store, overwrite)

    def _run(self, scan: Scan, store: Path | None, overwrite: bool) -> None:
        try:
            plan, queue = self.planned(), self.elsewhere.queue()
        except UnrollError as error:
            self.message.error(error)
            return
        if store is None:
            self.runs.here(plan, scan, self._factors(plan))
        elif self.elsewhere.is_here:
            self.runs.kept(plan, scan, self._factors(plan), store, overwrite=overwrite)
        else:
            self.runs.elsewhere(plan, scan, begun(plan, store, queue, overwrite))

    def _run_unsaved(self, store: Path, scan: Scan, overwrite: bool) -> None:
        """Another process reads its scan from a file: one that is in none is saved beside ``store`` first."""
        path = store.with_name(f"{store.name.removesuffix('.ome.zarr')}.scan.h5")
        if self.elsewhere.is_here:
            self.message.say(NO_FILE, "warning")
        elif path.exists():
            self.message.say(
                f"{path.name} exists already, and the scan would be saved there; choose another name.", "warning"
            )
        else:
            self.output.save_scan(path, scan, lambda: self.run(store, overwrite=overwrite))

    def go_on(self, store: Path) -> None:
        """Go on with the run that is kept in ``store``, on its own scan; one that another process is at is watched."""
        looking = self.runs.find(store, self.elsewhere.is_here)
        looking.finished.connect(lambda finished: self._go_on(finished.result, store))

    def _go_on(self, found: Any, store: Path) -> None:
        if isinstance(found, Path):
            self.session.open_stored(found).finished.connect(self.message.ended)
        if not isinstance(found, Found):
            return
        try:
            queue = self.elsewhere.queue()
        except ParameterError as error:
            self.message.error(error)
            return
        self.session.set_scan(found.scan)
        if found.is_going:
            self.runs.elsewhere(found.plan, found.scan, AwayRun(store))
        elif isinstance(found.plan, Plan) and self.elsewhere.is_here:
            self.runs.kept(found.plan, found.scan, self._factors(found.plan), store, again=True)
        else:
            self.runs.elsewhere(found.plan, found.scan, gone_on(store, queue))

    def _ask_store(self) -> None:
        path = ask_store(self, "Keep the run while it goes")
        if path is not None:
            self.run(path, overwrite=True)  # the dialog asked

    def _ask_kept(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "The .ome.zarr of a run that was interrupted")
        if path:
            self.go_on(Path(path))

    def _on_began(self) -> None:
        self.curve.clear_curves()
        self._offset, self._last_iteration = 0.0, 0
        self._show_arrived(self.arrived.isChecked())
        self._show_begun()

    def _show_begun(self) -> None:
        """Some work begins, and what was said of the last one goes."""
        self.message.say("")
        self.progress.start()

    def _on_ended(self, has_volume: bool) -> None:
        self.progress.end(complete=has_volume)
        self._estimating.throttle()  # the time of the next run is known better now

    def compare(self) -> None:
        """Compare the methods that apply to this scan on measurements that are left out."""
        scan = self.session.scan
        if scan is None:
            self.message.say(NO_SCAN, "warning")
            return
        run = self.session.runner.start(lambda stop: choose(scan, None, stop), "comparison of methods")
        run.finished.connect(self._on_compared)
        self._show_begun()

    def _on_compared(self, finished: Finished) -> None:
        self.progress.end(complete=finished.result is not None)
        self.message.ended(finished)
        if isinstance(finished.result, Verdict):
            self.method.show_verdict(finished.result)

    def use_sample(self) -> None:
        """Generate the cone-beam sample."""
        run = self.session.runner.start(jobs.sample(next(iter(jobs.SAMPLES))), "sample scan")
        run.finished.connect(self._on_sample)
        self._show_begun()

    def _on_sample(self, finished: Finished) -> None:
        if finished.result is not None:
            self.session.set_scan(finished.result)
            self.message.say("The sample is loaded; press Run.")
        else:
            self.message.ended(finished)

    def _on_busy(self, busy: bool) -> None:
        self.finish_button.setEnabled(busy)
        self.cancel_button.setEnabled(busy)
        if not busy:
            self.progress.reset()

    def _draw_residual(self, event: IterationDone) -> None:
        """Stages that count their iterations anew are drawn one after the other."""
        drawn = self.curve.points("residual")[0]
        if event.iteration <= self._last_iteration and drawn:
            self._offset = drawn[-1]
        self._last_iteration = event.iteration
        self.curve.add("residual", self._offset + event.iteration, event.residual)

    def _show_arrived(self, on: bool) -> None:
        for layer in self.session.layers.ours("arrived"):
            layer.visible = on
