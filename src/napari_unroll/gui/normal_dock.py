"""The Normal operator dock: fit Ñ ≈ N = AᴴA live, look at its parts, and see exact and approximated side by side.

Wires forms to jobs and layers; no numerics.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLabel

from napari_unroll.errors import UnrollError
from napari_unroll.events import Event, Finished, IterationDone, Outcome
from napari_unroll.gui import figure, normal_jobs, parts
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.drawn import Rectangle
from napari_unroll.gui.fits_box import FitsBox
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.maps_box import MapsBox
from napari_unroll.gui.normal_jobs import Compared, Fitted
from napari_unroll.gui.normal_layers import NormalLayers, reach
from napari_unroll.gui.patch_box import PatchBox
from napari_unroll.gui.placement import values_of
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.region_box import RegionBox
from napari_unroll.gui.worker import Run
from napari_unroll.normal import inspect, report
from napari_unroll.normal.effect import ImageError
from napari_unroll.normal.fit import FitOptions
from napari_unroll.scan.scan import Scan

PROBES = {"Phantom": "phantom", "Impulse at the cursor": "impulse", "Gaussian noise": "noise", "Constant": "constant"}


class NormalDock(parts.DockFrame):
    """Fit and inspect the approximated normal operator."""

    heading = "Normal operator"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-normal")
        self.fitted: Fitted | None = None
        self.fits: list[Fitted] = []
        self.compared: Compared | None = None
        self.layers = NormalLayers(self.session.layers)
        self._impulse: tuple[int, int, int] | None = None
        self.rectangle = Rectangle(self.session.viewer, "region")
        self._swap_run: Run | None = None
        self._options = FitOptions()
        self._build_fit()
        self._build_maps()
        self._build_compare()
        self._build_patch()
        self.export = parts.button(
            "Export figure…", self._ask_export, "The view, the plots and the numbers as one PNG."
        )
        self.body.addWidget(self.export)
        self.body.addStretch(1)
        self.session.scan_changed.connect(self.show_scan)
        self.session.runner.busy_changed.connect(self._on_busy)
        self._on_busy(self.session.runner.busy)
        self.session.layers_changed.connect(self._list_layers)
        self.session.viewer.dims.events.current_step.connect(self._look_where_drawn)
        self.show_scan(self.session.scan)
        self._list_layers()

    def _build_fit(self) -> None:
        self.form = RecordForm(FitOptions)
        self.remembered.form("fit", self.form)
        self.fit_button = parts.button("Fit", self.fit, "Fit the approximation in the background.", "fit")
        self.finish_button = parts.button(
            "Finish now", self.session.runner.finish_now, "Use the probes so far.", "finish"
        )
        self.cancel_button = parts.button("Cancel", self.session.runner.cancel, "Give the fit up.", "cancel")
        self.progress = parts.RunBar(self.session.runner)
        self.curve = Curve(self.session.viewer, "exact operator applications", "relative error", log=True)
        self.fits_box = FitsBox()
        box = parts.Section(
            "Fit",
            parts.Fold("Form and recipe", self.form),
            parts.row(self.fit_button, self.finish_button, self.cancel_button, stretch=(1, 1, 1)),
            self.progress, self.curve, self.fits_box,
        )  # fmt: skip
        self.body.addWidget(box)

    def _build_maps(self) -> None:
        self.maps = MapsBox(self.session.viewer, lambda: self.patch_box.edge.value())
        self.maps.wanted.connect(self._show_map)
        self.body.addWidget(self.maps)

    def _build_compare(self) -> None:
        self.probe = QComboBox()
        self.probe.setObjectName("probe")
        parts.explain(self.probe, "Volume x", "The volume x that both operators are applied to.")
        self.probe.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.compare_button = parts.button("N x against Ñ x", self.compare, "Apply both to x and show them.", "compare")
        self.side = QCheckBox("Side by side")
        self.side.setToolTip("N x, Ñ x and their difference in a grid with one slider.")
        self.side.setChecked(True)
        self.side.toggled.connect(self.layers.arrange)
        self.numbers = parts.Note()
        self.effect_button = parts.button(
            "Effect on a reconstruction", self.measure_effect,
            "Solve with N and with Ñ from the truth's exact data and compare the images (conjugate gradients).",
        )  # fmt: skip
        self.effect = parts.Note()
        self.region = RegionBox()
        self.region.drawing_requested.connect(self.draw_region)
        self.region.requested.connect(self.look_at_region)
        self.region.shown.connect(self._show_swapped)
        self.compare_box = parts.Section(
            "Compare with the exact operator", parts.row(QLabel("x ="), self.probe, stretch=(0, 1)),
            parts.row(self.compare_button, self.side, stretch=(1, 0)), self.numbers, self.region,
            self.effect_button, self.effect,
        )  # fmt: skip
        self.body.addWidget(self.compare_box)

    def _build_patch(self) -> None:
        self.patch_box = PatchBox()
        self.patch_box.wanted.connect(self.check_patch)
        self.body.addWidget(self.patch_box)

    # state

    def show_scan(self, scan: Scan | None) -> None:
        """Another scan: what was fitted no longer applies."""
        self.fitted = self.compared = None
        self.fits.clear()
        self.region.list_fits([])
        self.rectangle.remove()
        self.curve.clear_curves()
        self.maps.show_fit(None)
        self.fits_box.forget()
        self.numbers.setText("")
        self.effect.setText("")
        self.patch_box.numbers.setText("")
        self.layers.remove()
        if scan is not None:
            self.patch_box.edge.setValue(min(48, max(4, max(scan.grid.shape) // 2)))
            self.message.say("")
        self._enable()

    def _enable(self) -> None:
        ready = self.fitted is not None
        for widget in (self.compare_button, self.patch_box.button, self.export):
            widget.setEnabled(ready)
        scan = self.session.scan
        self.region.draw_button.setEnabled(ready)
        self.effect_button.setEnabled(ready and scan is not None and scan.truth is not None)

    def _on_busy(self, busy: bool) -> None:
        self.finish_button.setEnabled(busy)
        self.cancel_button.setEnabled(busy)
        if not busy:
            self.progress.reset()

    def _list_layers(self) -> None:
        chosen = self.probe.currentText()
        shape = None if self.session.scan is None else self.session.scan.grid.shape
        names = [
            layer.name for layer in self.session.viewer.layers
            if isinstance(layer, Image) and layer.ndim == 3 and values_of(layer).shape == shape
        ]  # fmt: skip
        self.probe.clear()
        self.probe.addItems([*PROBES, *names])
        if self.probe.findText(chosen) >= 0:
            self.probe.setCurrentText(chosen)

    # fit

    def fit(self) -> None:
        """Fit with the options in the form."""
        scan = self.session.scan
        if scan is None:
            self.message.say("There is no scan yet: open one in the Scan dock.", "warning")
            return
        try:
            self._options = self.form.value()
        except UnrollError as error:
            self.message.error(error)
            return
        self.curve.clear_curves()
        job = normal_jobs.fit(scan, self._options, self.session.physics, preferences().device)
        self._start(job, "fit", self._on_fitted).event.connect(self._on_event)

    def _start(self, job: normal_jobs.Make, what: str, found: Callable[[Any], None]) -> Run:
        """Begin a job; what was said of an earlier one goes. ``found`` gets its result."""
        self.message.say("")
        run = self.session.runner.start(job, what)
        run.finished.connect(lambda finished: self._on_end(what, finished, found))
        self.progress.start()
        return run

    def _on_end(self, what: str, finished: Finished, found: Callable[[Any], None]) -> None:
        self.progress.end(complete=finished.result is not None)
        if finished.result is None:
            self.message.ended(finished)
            return
        kind = "good" if finished.outcome is Outcome.COMPLETED else "info"
        self.message.say(f"{what[:1].upper()}{what[1:]} {finished.outcome}.", kind)
        found(finished.result)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, IterationDone) and event.n_iterations > 1:  # a closed form has no curve
            calls = event.metrics.get("operator_calls", event.iteration)
            self.curve.add("images", calls, event.metrics.get("error_image"))
            self.curve.add("white noise", calls, event.metrics.get("error_gaussian"))

    def _on_fitted(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.session.physics = fitted.physics
        self.session.set_factors(fitted.factors, self._options)
        self.fits_box.add(fitted)
        self.fits.append(fitted)
        self.region.list_fits([fit.factors.form for fit in self.fits], normal_jobs.n_coils(fitted))
        self._look_where_drawn()
        self.maps.show_fit(fitted)
        self._enable()

    def _show_map(self, name: str, values: np.ndarray, colours: str) -> None:
        if self.session.scan is not None:
            self.layers.show_map(self.session.scan.grid, name, values, colours)

    # compare

    def _index(self) -> tuple[int, int, int]:
        """The voxel of the volume under the mouse."""
        assert self.session.scan is not None
        return self.session.layers.viewpoint.index_at_cursor(self.session.scan.grid)

    def compare(self) -> None:
        """Apply N and Ñ to the chosen x."""
        fitted, name = self.fitted, self.probe.currentText()
        if fitted is None:
            self.message.say("Fit the operator first.", "warning")
            return
        kind = PROBES.get(name)
        index = self._impulse = self._index() if kind == "impulse" else None
        if kind is None:
            values: Any = np.asarray(values_of(self.session.viewer.layers[name]))
            make_x = lambda: values  # noqa: E731
        else:
            make_x = lambda: inspect.probe_volume(kind, fitted.physics, index)  # type: ignore[arg-type]  # noqa: E731
        self._start(normal_jobs.compare(fitted, make_x), "comparison", self._on_compared)

    def _on_compared(self, found: Compared) -> None:
        self.compared, pair = found, found.pair
        self.numbers.setText(
            f"Relative error {report.percent(pair.error)}.<br>N {parts.seconds(pair.seconds_exact)}, "
            f"Ñ {parts.seconds(pair.seconds_approximated)} ({_times(pair.speedup)} times as fast).<br>"
            f"The difference is drawn within ± {report.percent(reach(pair) / max(float(np.abs(pair.exact).max()), 1e-30))} "
            "of the largest value of N x."
        )
        self.maps.show_error(found)
        scan = self.session.scan
        if scan is not None:
            self.layers.show_comparison(scan.grid, found, self.side.isChecked())
            if self._impulse is not None:
                self.session.layers.viewpoint.go_to(scan.grid, self._impulse)

    # region

    def draw_region(self) -> None:
        """Begin a region; N x of the chosen x is needed first."""
        scan = self.session.scan
        if scan is None:
            return
        self.side.setChecked(False)  # in tiles the region would have one of its own
        y, x = (slice(3 * n // 8, max(3 * n // 8 + 1, n - 3 * n // 8)) for n in scan.grid.shape[1:])
        self.rectangle.show(scan.grid, y, x, lambda *_: self.region.look_again())
        self.region.edge.setRange(2, max(3, *scan.grid.shape))
        self.region.edge.setValue(min(self.patch_box.edge.value(), max(scan.grid.shape)))
        self.region.look_again()

    def look_at_region(self) -> None:
        """Swap N for Ñ in a patch about the region, for every fit so far."""
        scan = self.session.scan
        inside = None if scan is None else self.rectangle.inside(scan.grid)
        if scan is None or inside is None or not self.fits:
            return
        if self.compared is None:
            self.message.say("Press N x against Ñ x first; the region is looked at in what it shows.", "info")
            return
        if self.session.runner.busy and self.session.runner.run is not self._swap_run:
            self.region.look_again()  # later: no other work is given up for it
            return
        z = self.session.layers.viewpoint.plane(scan.grid)
        box = (slice(z, z + 1), *inside)
        edge, n_virtual = self.region.edge.value(), self.region.n_virtual
        job = normal_jobs.swap_in(self.fits, self.compared.pair, box, edge, n_virtual)
        self._swap_run = self.session.runner.start(job, "Ñ in the region")
        self._swap_run.finished.connect(self._on_swapped)

    def _look_where_drawn(self, *_: Any) -> None:
        """The region is in the plane that is shown, and every fit is looked at."""
        if isalive(self) and self.rectangle.layer is not None:
            self.region.look_again()

    def _on_swapped(self, finished: Finished) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.region.show_swap(finished.result)

    def _show_swapped(self, fit: int) -> None:
        """N x with the patch swapped, where N x alone was shown."""
        found, scan = self.region.found, self.session.scan
        if found is not None and scan is not None and self.compared is not None:
            self.layers.show_swapped(scan.grid, found.volumes[fit], self.compared.pair)
            self.rectangle.bring_to_front()

    def measure_effect(self) -> None:
        """Measure what Ñ in place of N does to an image."""
        scan = self.session.scan
        if self.fitted is None or scan is None or scan.truth is None:
            return
        self._start(normal_jobs.image_error(self.fitted, scan.truth), "effect on a reconstruction", self._on_effect)

    def _on_effect(self, found: ImageError) -> None:
        self.effect.setText(
            f"Ñ changes the image by {report.percent(found.caused)}; distance from the truth {report.percent(found.exact)} "
            f"with N, {report.percent(found.approximated)} with Ñ."
        )

    # patch

    def check_patch(self) -> None:
        """Evaluate Ñ on one patch of the chosen size."""
        if self.fitted is not None:
            job = normal_jobs.check_patch(self.fitted, self.patch_box.edge.value())
            self._start(job, "patch", self.patch_box.show_check)

    # out

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the figure", "normal_operator.png", "Pictures (*.png)")
        if path:
            self.export_figure(Path(path))

    def export_figure(self, path: Path) -> None:
        """The canvas, the two plots and the numbers as one picture."""
        labels = (self.fits_box.errors, self.numbers, self.effect, self.patch_box.numbers)
        text = re.sub("</?b>", "", "\n".join(t for label in labels if (t := label.text())))
        picture = figure.compose(self.session.viewer, [self.curve, self.maps.profile], text.replace("<br>", "\n"))
        try:
            figure.save(picture, path)
        except UnrollError as error:
            self.message.say(str(error), "error")
        else:
            self.message.say(f"Saved {path.name}.", "good")


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
