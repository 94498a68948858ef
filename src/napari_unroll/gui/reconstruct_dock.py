"""The Reconstruct dock: choose a method, run it in the background, watch the result stream into one layer.

Wires forms to ``pipeline.resolve`` and ``pipeline.run``; no numerics.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication, QCheckBox, QFileDialog, QSpinBox
from superqt.utils import QSignalDebouncer

from napari_unroll.errors import ParameterError, UnrollError
from napari_unroll.events import Event, Finished, IterationDone, Outcome, Warned, duration
from napari_unroll.gui import jobs, parts
from napari_unroll.gui.away_jobs import AwayRun, Found, begun, gone_on
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.elsewhere import ElsewhereBox
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.images import contrast
from napari_unroll.gui.layers import RECORD
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.rectangle import Rectangle
from napari_unroll.gui.result_view import ResultView
from napari_unroll.gui.session import Result
from napari_unroll.gui.worker import Make, Run
from napari_unroll.io import writers
from napari_unroll.methods import registry, weights
from napari_unroll.pipeline import provenance
from napari_unroll.pipeline.choose import Verdict, choose
from napari_unroll.pipeline.devices import probe
from napari_unroll.pipeline.memory import gib
from napari_unroll.pipeline.plan import Choices, Plan, fit_options, resolve
from napari_unroll.pipeline.spoken import changed_fit
from napari_unroll.pipeline.verdicts import automatic
from napari_unroll.pipeline.watching import FinishedElsewhere, Kept
from napari_unroll.scan.scan import Scan

AUTO = "automatic"
LIVE_S = 10.0
"""Longest preview that is made again at every change."""
LIVE_PAUSE_MS = 600
"""After the last change."""
KEYS = {"run": "Ctrl+Return", "finish": "Ctrl+Shift+Return", "cancel": "Ctrl+."}
"""Button → shortcut; none of napari's own."""
NO_SCAN = "There is no scan yet: open one in the Scan dock, or take the sample."

NO_FILE = "This scan is in no file, so a run of it could not go on: save it first (Copy as command asks where)."
NO_STORE = "A run is kept in a store whose name ends with .ome.zarr;"
STORES = "OME-Zarr (*.ome.zarr)"


class ReconstructDock(parts.DockFrame):
    """Method, its parameters, memory and device; Run, Finish now, Cancel; the result streams into the viewer."""

    heading = "Reconstruct"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-reconstruct")
        self.view: ResultView | None = None
        self._live_run: Run | None = None
        self._live_layer: Any = None
        self.rectangle = Rectangle(self.session.viewer, "preview rectangle")
        self.plan: Plan | Kept | None = None
        self.away: AwayRun | None = None
        self.result: Result | None = None
        self.params: RecordForm | None = None
        self._devices = probe()
        self._estimating = QSignalDebouncer(parent=self)
        self._estimating.setTimeout(150)
        self._refreshing = QSignalDebouncer(parent=self)
        self._refreshing.setTimeout(LIVE_PAUSE_MS)
        self._offset, self._last_iteration = 0.0, 0
        self.arrived = QCheckBox("Show which patches have arrived")
        self._build_method()
        self._build_settings()
        self._build_run()
        self._build_result()
        self.body.addStretch(1)
        self._estimating.triggered.connect(self.estimate)
        self._refreshing.triggered.connect(self.refresh)
        self.session.scan_changed.connect(self.show_scan)
        self.session.layers_changed.connect(self._on_layers)
        self.session.weights_added.connect(self._list_weights)
        self.session.weights_chosen.connect(self.use_weights)
        self.session.choices_restored.connect(self.show_choices)
        self.session.runner.busy_changed.connect(self._on_busy)
        self._on_busy(self.session.runner.busy)
        self.show_scan(self.session.scan)

    def _build_method(self) -> None:
        tip = "How the volume is found from the measurements; type a part of a name to search."
        self.method = parts.explain(parts.Searchable(), "Method", tip)
        self.method.setObjectName("method")
        self.method.currentIndexChanged.connect(self._on_method)
        self.summary = parts.Wrapped()
        self.params_fold = parts.Fold("Parameters of the method")
        self.which_button = parts.button(
            "Which method for this scan?",
            self.compare,
            "Leave a few per cent of the measurements out, run the methods that apply, and see which foretells them best.",
        )
        self.verdict = parts.Wrapped()
        self.verdict.hide()
        box = parts.section("Method", self.method, self.summary, self.which_button, self.verdict, self.params_fold)
        self.body.addWidget(box)

    def _build_settings(self) -> None:
        self._make_settings(None)
        self.region = QCheckBox("Preview a slab only")
        self.region.setToolTip("Reconstruct only a few planes around the slice that the viewer shows.")
        self.planes = parts.explain(QSpinBox(), "Planes of the preview", "Thickness of the slab.")
        self.planes.setRange(1, 512)
        self.planes.setValue(16)
        self.planes.setSuffix(" planes")
        self.planes.setMinimumWidth(132)
        self.inside = QCheckBox("Only inside a rectangle")
        self.inside.setToolTip("Draw where: a rectangle over the slice that can be moved and stretched.")
        self.inside.toggled.connect(self._on_inside)
        self.live = QCheckBox("Live: preview again when something changes")
        self.live.setToolTip(f"For methods whose preview takes less than {LIVE_S:.0f} s.")
        self.live.toggled.connect(self._on_live)
        self.region.toggled.connect(self._later)
        self.planes.valueChanged.connect(self._later)
        self.memory = parts.Wrapped()
        self.settings_fold = parts.Fold("Patches, device, precision", self.settings)
        self.body.addWidget(self.settings_fold)
        self.body.addWidget(parts.row(self.region, self.planes, stretch=(1, 0)))
        self.body.addWidget(self.inside)
        self.body.addWidget(self.live)
        self.body.addWidget(self.memory)

    def _make_settings(self, scan: Scan | None) -> None:
        names = {"device": ["auto", *(d.name for d in self._devices)]}
        skip = ("method", "params", "weights", "fit", "roi")
        self.settings = RecordForm(Choices, skip=skip, choices=names)
        preferred = preferences()
        self.remembered.form("settings", self.settings, Choices(device=preferred.device, precision=preferred.precision))
        self.settings.changed.connect(self._later)

    def _build_run(self) -> None:
        self.run_button = parts.button("Run", self.run, "Reconstruct in the background.", "run")
        self.finish_button = parts.button("Finish now", self.finish_now, "End soon with what there is.", "finish")
        self.cancel_button = parts.button("Cancel", self.cancel, "Give the run up.", "cancel")
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
        self.elsewhere.taken_up.connect(self.go_on)
        self.body.addWidget(self.elsewhere)
        self.body.addWidget(self.sample_button)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.curve)

    def _build_result(self) -> None:
        self.arrived.setToolTip(
            "Colour: relative distance of each patch from the data; dark is consistent, uncoloured has not arrived."
        )
        self.arrived.toggled.connect(self._show_arrived)
        self.copy_button = parts.button("Copy as command", self.copy_command, "The line that repeats this in a shell.")
        self.python_button = parts.button("Copy as Python", self.copy_python, "The lines that repeat this in a script.")
        self.save_button = parts.button("Save result…", self._ask_save, "OME-Zarr, TIFF or NPY, with its provenance.")
        self.save_button.setEnabled(False)
        self.body.addWidget(self.arrived)
        self.body.addWidget(parts.row(self.copy_button, self.python_button, stretch=(1, 1)))
        self.body.addWidget(self.save_button)

    # choices

    def show_scan(self, scan: Scan | None) -> None:
        """Offer the methods that apply to this scan."""
        self.inside.setChecked(False)
        self.planes.setMaximum(512 if scan is None else scan.grid.shape[0])
        self.sample_button.setVisible(scan is None)
        chosen = self.method.currentData()
        self.method.blockSignals(True)
        self.method.clear()
        methods = registry.METHODS.values() if scan is None else registry.for_scan(scan)
        self.method.addItem(self._auto_title(scan), "auto")
        for method in methods:
            self.method.addItem(method.title, method.name)
        self.method.setCurrentIndex(max(0, self.method.findData(chosen)))
        self.method.blockSignals(False)
        self._on_method()

    @staticmethod
    def _auto_title(scan: Scan | None) -> str:
        return AUTO if scan is None else f"{AUTO}: {automatic(scan)[0].title}"

    def choose(self, method: str) -> None:
        """Select a method by name; raises ParameterError for one that does not apply."""
        at = self.method.findData(method)
        if at < 0:
            known = ", ".join(str(self.method.itemData(i)) for i in range(self.method.count()))
            raise ParameterError(f"Expected one of the methods {known}; got {method!r}.")
        self.method.setCurrentIndex(at)

    def _method_name(self) -> str:
        name = self.method.currentData() or "auto"
        if name == "auto" and self.session.scan is not None:
            return automatic(self.session.scan)[0].name
        return str(name)

    def _on_method(self, index: int = 0) -> None:
        if self.params is not None:
            self.params_fold.inner.removeWidget(self.params)
            self.params.deleteLater()
            self.params = None
        name = self._method_name()
        if name == "auto":
            self.summary.setText("The strongest method that applies to the scan.")
            self.params_fold.hide()
            return
        method = registry.get(name)
        self.summary.setText(method.summary)
        self.arrived.setVisible(method.patchwise)
        self.summary.setToolTip(method.source)
        self.params = RecordForm(method.params, choices={"weights": self._weights()})
        self.params.changed.connect(self._later)
        self.params_fold.inner.addWidget(self.params)
        self.params_fold.setVisible(bool(self.params.fields))
        self._later()

    def _weights(self) -> list[str]:
        """Shipped weights of the chosen method, and all that were trained in this window."""
        scan, method = self.session.scan, registry.get(self._method_name())
        modality = None if scan is None else scan.modality
        shipped = [w for name in method.networks for w in weights.shipped_for(name, modality)]
        return ["auto", *(w.name for w in shipped), *map(str, self.session.weights)]

    def _list_weights(self) -> None:
        """Newly trained weights can be chosen; what was chosen stays."""
        if self.params is None or "weights" not in self.params.fields:
            return
        self.params.fields["weights"].offer(self._weights())

    def use_weights(self, path: str, method: str) -> None:
        """Choose ``method``, with these weights."""
        try:
            self.choose(method)
        except ParameterError as error:
            self.message.error(error)
            return
        assert self.params is not None
        self.params.fields["weights"].value = path
        self.params_fold.button.setChecked(True)
        self.message.say(f"Reconstructs with {Path(path).stem}; press Run.")

    def show_choices(self, choices: Choices) -> None:
        """Fill the forms with the choices of a stored result."""
        self.choose(choices.method)
        if self.params is not None:
            record = registry.get(choices.method).params
            self.params.set_value(record(**choices.params))
        self.settings.set_value(choices.model_copy(update={"roi": None, "fit": {}}))
        self.session.fit_options = fit_options(choices)
        self._show_region(choices.roi)
        self.message.say("The choices of the stored result are restored; Run makes it again.")

    def choices(self) -> Choices:
        """What the user wishes; raises ParameterError with one sentence where a field is wrong."""
        settings: Choices = self.settings.value()
        params = {} if self.params is None else self.params.value().model_dump()
        default = registry.get(self._method_name()).params() if self.params is not None else None
        changed = {k: v for k, v in params.items() if default is None or v != getattr(default, k)}
        wishes = {"method": self._method_name(), "params": changed, "roi": self._roi(), **self._fit(settings, params)}
        return settings.model_copy(update=wishes)

    def _fit(self, settings: Choices, params: dict[str, Any]) -> dict[str, Any]:
        """The options of the last fit or of a stored result, where the method needs one and no other form is asked for."""
        options, method = self.session.fit_options, registry.get(self._method_name())
        needed = method.needs_normal is not None and method.needs_normal(method.params(**params))
        if options is None or not needed or settings.normal not in ("auto", options.form):
            return {}
        return {"normal": options.form, "fit": changed_fit(options)}

    def _factors(self, plan: Plan) -> Any:
        """The fitted operator of the Normal operator dock, where the plan's fit would make the same."""
        return self.session.factors if plan.fit == self.session.fit_options else None

    def _roi(self) -> tuple[int, int, int, int, int, int] | None:
        """The slab around the viewer's slice, along z."""
        scan = self.session.scan
        if scan is None or not self.region.isChecked():
            return None
        nz, ny, nx = scan.grid.shape
        n = min(self.planes.value(), nz)
        middle = self.session.layers.viewpoint.plane(scan.grid)
        start = int(np.clip(middle - n // 2, 0, nz - n))
        y, x = self.rectangle.inside(scan.grid) or (slice(0, ny), slice(0, nx))
        return (start, start + n, y.start, y.stop, x.start, x.stop)

    def _on_inside(self, on: bool) -> None:
        """Show a rectangle to stretch; a rectangle means a preview."""
        scan = self.session.scan
        if on and scan is not None:
            self.region.setChecked(True)
            y, x = (slice(n // 4, max(n // 4 + 1, n - n // 4)) for n in scan.grid.shape[1:])
            self.rectangle.show(scan.grid, y, x, self._later)
        else:
            self.rectangle.remove()
        self._later()

    def _show_region(self, roi: tuple[int, ...] | None) -> None:
        """The region of a stored result, in its place: the viewer goes to the middle of its planes."""
        scan = self.session.scan
        self.region.setChecked(roi is not None)
        self.inside.setChecked(False)
        if roi is None or scan is None:
            return
        z0, z1, y0, y1, x0, x1 = roi
        self.planes.setValue(z1 - z0)
        self.session.layers.viewpoint.go_to(scan.grid, ((z0 + z1) // 2, (y0 + y1) // 2, (x0 + x1) // 2))
        if (y0, y1, x0, x1) != (0, scan.grid.shape[1], 0, scan.grid.shape[2]):
            self.inside.setChecked(True)
            self.rectangle.show(scan.grid, slice(y0, y1), slice(x0, x1), self._later)

    def _later(self, *_: Any) -> None:
        self._estimating.throttle()
        if self.live.isChecked():
            self._refreshing.throttle()

    def _on_live(self, on: bool) -> None:
        """A live preview is of a region."""
        if on:
            self.region.setChecked(True)
            self._later()

    def refresh(self) -> None:
        """Preview again in place of the last preview; too slow a method ends that, with one sentence."""
        scan, run = self.session.scan, self.session.runner.run
        if scan is None or not self.live.isChecked():
            return
        if run is not None and not run.over and run is not self._live_run:
            self._refreshing.throttle()
            return
        plan = self.estimate()
        if plan is None:
            return
        if self._seconds(plan) > LIVE_S:
            self.live.setChecked(False)
            self.message.say(
                f"The live preview is off: {plan.title} would take {duration(self._seconds(plan))} each time."
            )
            return
        shown = self._live_layer
        self._start(plan, scan)
        self._live_run, view = self.session.runner.run, self.view
        assert self._live_run is not None
        assert view is not None
        self._live_run.finished.connect(lambda finished: self._replace(shown, view, finished))

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

    def estimate(self) -> Plan | None:
        """Show what the choices mean: patch, memory, device. Returns the plan, None where the choices do not fit."""
        scan = self.session.scan
        if scan is None:
            self.memory.setText("")
            return None
        try:
            plan = resolve(self.choices(), scan, self._devices)
        except UnrollError as error:
            self.memory.setText(str(error))
            return None
        patch = " × ".join(map(str, plan.patch_size))
        what = f"patches {patch}, overlap {plan.overlap}, " if registry.get(plan.method).patchwise else ""
        expected = plan.expected_with(self._factors(plan))
        memory = f"about {gib(plan.memory_bytes)} of {gib(plan.free_bytes)} free"
        takes = f"{plan.device}: {what}{memory}, {expected.text}."
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
            return
        is_here = self.elsewhere.is_here
        if store is None and not is_here:
            self._ask_store()
            return
        if store is not None and not store.name.endswith(".ome.zarr"):
            self.message.say(f"{NO_STORE} got {store.name!r}.", "warning")
            return
        if store is not None and not scan.provenance.source:
            self.message.say(NO_FILE, "warning") if is_here else self._run_saved(store, scan)
            return
        try:
            plan = resolve(self.choices(), scan, self._devices)
            away = None if store is None or is_here else begun(plan, store, self.elsewhere.queue())
        except UnrollError as error:
            self.message.error(error)
            return
        self._start(plan, scan, store, overwrite=overwrite, away=away)

    def _run_saved(self, store: Path, scan: Scan) -> None:
        """Another process reads its scan from a file: one that is in none is saved beside ``store`` first."""
        path = store.with_name(f"{store.name.removesuffix('.ome.zarr')}.scan.h5")
        if path.exists():
            self.message.say(
                f"{path.name} exists already, and the scan would be saved there; choose another name.", "warning"
            )
            return
        saving = self.session.runner.start(jobs.save_scan(path, scan), f"saving {path.name}")
        saving.finished.connect(lambda finished: self._on_scan_saved(finished, lambda: self.run(store)))

    def go_on(self, store: Path) -> None:
        """Go on with the run that is kept in ``store``, on its own scan; one that another process is at is watched."""
        away = AwayRun(store)
        reading = self.session.runner.start(away.found(self.elsewhere.is_here), f"reading {store.name}")
        self.away = away
        reading.finished.connect(lambda finished: self._go_on(finished, store))
        self.message.say("")
        self.progress.start()

    def _go_on(self, finished: Finished, store: Path) -> None:
        found, self.away = finished.result, None
        if isinstance(found, Path):
            self.session.open_stored(found).finished.connect(self.message.ended)
        if not isinstance(found, Found):
            self.progress.end(complete=False)
            self.message.ended(finished)
            self.elsewhere.list_soon()
            return
        try:
            away = None if self.elsewhere.is_here else gone_on(store, self.elsewhere.queue())
        except ParameterError as error:
            self.message.error(error)
            return
        self.session.set_scan(found.scan)
        self._start(found.plan, found.scan, store, again=True, away=AwayRun(store) if found.is_going else away)

    def _start(
        self,
        plan: Plan | Kept,
        scan: Scan,
        store: Path | None = None,
        *,
        again: bool = False,
        overwrite: bool = False,
        away: AwayRun | None = None,
    ) -> None:
        self.session.runner.cancel()
        self.message.say("")
        self.curve.clear_curves()
        self._offset, self._last_iteration = 0.0, 0
        limits = None
        if scan.truth is not None:
            limits = contrast(np.abs(scan.truth))
        name = self.session.free_name(f"{scan.name} · {plan.method}")
        patchwise = registry.get(plan.method).patchwise
        view = self.session.layers.begin_result(name, plan.grid, limits, patchwise)
        job = self._job(plan, scan, store, again, overwrite) if away is None else away.watched(plan, scan)
        run = self.session.runner.start(job, plan.title, sink=view.sink)
        run.event.connect(self._on_event)
        run.finished.connect(self._on_finished)
        self.view, self.plan, self.away = view, plan, away
        self._show_arrived(self.arrived.isChecked())
        self.progress.start()

    def _job(self, plan: Plan | Kept, scan: Scan, store: Path | None, again: bool, overwrite: bool) -> Make:
        """A run in this process."""
        assert isinstance(plan, Plan)
        factors = self._factors(plan)
        if store is None:
            return jobs.reconstruction(plan, scan, factors)
        return jobs.kept_reconstruction(plan, scan, factors, store, again=again, overwrite=overwrite)

    def _ask_store(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Keep the run while it goes", "result.ome.zarr", STORES)
        if path:
            self.run(Path(path), overwrite=True)  # the dialog asked

    def _ask_kept(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "The .ome.zarr of a run that was interrupted")
        if path:
            self.go_on(Path(path))

    def compare(self) -> None:
        """Compare the methods that apply to this scan on measurements that are left out."""
        scan = self.session.scan
        if scan is None:
            self.message.say(NO_SCAN, "warning")
            return
        run = self.session.runner.start(lambda stop: choose(scan, None, stop), "comparison of methods")
        run.finished.connect(self._on_compared)
        self.message.say("")
        self.progress.start()

    def _on_compared(self, finished: Finished) -> None:
        self.progress.end(complete=finished.result is not None)
        self.message.ended(finished)
        if isinstance(finished.result, Verdict):
            self.verdict.setText(_as_table(finished.result))
            self.verdict.show()
            self.show_scan(self.session.scan)

    def finish_now(self) -> None:
        """Ask for what there is."""
        self.session.runner.finish_now()
        self.message.say("Finishing with what there is …")

    def cancel(self) -> None:
        """Give the run up, wherever it is."""
        if self.away is not None:
            self.away.gives_up = True
        self.session.runner.cancel()

    def use_sample(self) -> None:
        """Generate the cone-beam sample."""
        run = self.session.runner.start(jobs.sample(next(iter(jobs.SAMPLES))), "sample scan")
        run.finished.connect(self._on_sample)
        self.message.say("")
        self.progress.start()

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

    def _on_layers(self) -> None:
        """Whoever takes the result away wants no result."""
        view = self.view
        if view is not None and view.layer not in self.session.viewer.layers:
            self.view, away = None, self.away
            self.session.runner.cancel()
            self.session.layers.finish_result(view, None)
            self.message.say(
                "The layer of the result was removed, so the run was ended." if away is None else goes_on(away), "info"
            )

    def _on_event(self, event: Event) -> None:
        if self.view is not None:
            self.view.follow(event)
        if isinstance(event, Warned):
            self.message.say(event.text, "warning")
        elif isinstance(event, IterationDone):
            self._draw_residual(event)

    def _draw_residual(self, event: IterationDone) -> None:
        """Stages that count their iterations anew are drawn one after the other."""
        drawn = self.curve.points("residual")[0]
        if event.iteration <= self._last_iteration and drawn:
            self._offset = drawn[-1]
        self._last_iteration = event.iteration
        self.curve.add("residual", self._offset + event.iteration, event.residual)

    def _on_finished(self, finished: Finished) -> None:
        view, plan, scan, away = self.view, self.plan, self.session.scan, self.away
        self.view = self.away = None
        if away is not None:
            self.elsewhere.list_soon()
        if view is None:
            return
        self.session.layers.finish_result(view, finished.result)
        kind = {Outcome.FAILED: "error", Outcome.COMPLETED: "good"}.get(finished.outcome, "info")
        if finished.fixed_point is not None and not finished.fixed_point.converged:
            kind = "warning"
        took = f" {parts.seconds(finished.seconds)}." if finished.result is not None else ""
        if away is not None and finished.outcome is Outcome.CANCELLED and not away.gives_up:
            self.message.say(goes_on(away))
        else:
            self.message.say(finished.advice + took, kind)
        self.progress.end(complete=finished.result is not None)
        if finished.result is None or plan is None or scan is None:
            return
        self._keep(view, plan, scan, finished)
        self._estimating.throttle()  # the time of the next run is known better now

    def _keep(self, view: ResultView, plan: Plan | Kept, scan: Scan, finished: Finished) -> None:
        if isinstance(finished, FinishedElsewhere):
            record = dict(finished.record)
        else:
            assert isinstance(plan, Plan)
            record = provenance.record(plan, scan, finished)
        self.result = Result(view.layer.name, view.kept(finished.result), plan.grid, record)
        view.layer.metadata[RECORD] = record
        if finished.fixed_point is not None:
            self.session.layers.show_patches(finished.fixed_point, plan.grid)
        self.save_button.setEnabled(True)
        self.session.result_added.emit(self.result)

    def _show_arrived(self, on: bool) -> None:
        for layer in self.session.layers.ours("arrived"):
            layer.visible = on

    # out

    def copy_command(self) -> None:
        """Put the command line that repeats this run on the clipboard."""
        self._copy(lambda plan: plan.command)

    def copy_python(self) -> None:
        """Put the lines of Python that repeat this run on the clipboard."""
        self._copy(lambda plan: plan.script)

    def _copy(self, text: Callable[[Plan], str]) -> None:
        """Copy what repeats the run; a scan that is in no file is saved first."""
        plan, scan = self.estimate(), self.session.scan
        if plan is None or scan is None:
            self.message.say(self.memory.text() or NO_SCAN, "warning")
        elif scan.provenance.source:
            QApplication.clipboard().setText(text(plan))
            self.message.say(f"Copied: {text(plan)}")
        elif path := self._ask_scan_path():
            run = self.session.runner.start(jobs.save_scan(path, scan), f"saving {path.name}")
            run.finished.connect(lambda finished: self._on_scan_saved(finished, lambda: self._copy(text)))

    def _ask_scan_path(self) -> Path | None:
        """Where to keep a scan that came from a layer, None where the user wants no file."""
        path, _ = QFileDialog.getSaveFileName(
            self, "This scan is in no file yet; save it, so that it can be read again", "scan.h5", "Scans (*.h5)"
        )
        return Path(path) if path else None

    def _on_scan_saved(self, finished: Finished, then: Callable[[], None]) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.session.scan_saved(finished.result)
        then()

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the result", "result.tif", "Volumes (*.tif *.npy *.ome.zarr)")
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the last result with its provenance."""
        if self.result is None:
            return
        try:
            writers.write(path, np.asarray(self.result.values), self.result.grid, self.result.record, overwrite=True)
        except UnrollError as error:
            self.message.error(error)
            return
        self.message.say(f"Saved {path.name}.", "good")


def goes_on(away: AwayRun) -> str:
    """What becomes of a run elsewhere that this window no longer watches."""
    return f"The run in {away.store.name} goes on without this window; take it up again in the list of runs elsewhere."


def _as_table(verdict: Verdict) -> str:
    """The rows as rich text."""
    head = "<tr><th>method</th><th>run</th><th>left-out error</th><th>time</th><th>memory</th></tr>"
    cells = [
        f"<tr><td>{r.method}&nbsp;</td><td>{r.settings}&nbsp;</td><td>{r.error:.2%} ± {r.spread:.2%}&nbsp;</td>"
        f"<td>{r.seconds:.1f} s&nbsp;</td><td>{r.memory_mib:.0f} MiB</td></tr>"
        for r in verdict.rows
    ]
    return f"<table>{head}{''.join(cells)}</table>"
