"""The Scan dock: open, generate or choose what was measured; see what was read, inferred and missing.

Wires buttons to jobs and the session; no numerics.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from pydantic import Field
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QMenu

from napari_unroll.errors import UnrollError
from napari_unroll.events import Finished, Outcome
from napari_unroll.gui import jobs, parts
from napari_unroll.gui.facts import facts_html
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.from_layer import LayerImage, image_grid, scan_from_array
from napari_unroll.gui.geometry_box import GeometryBox
from napari_unroll.gui.geometry_view import GeometryView
from napari_unroll.gui.layer_box import LayerBox
from napari_unroll.gui.layers import SETUP, TRIAL
from napari_unroll.gui.placement import values_of
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.reader_form import ReaderForm
from napari_unroll.gui.setup import setup_of
from napari_unroll.gui.theme import Theme
from napari_unroll.io import registry
from napari_unroll.io.writers import is_result
from napari_unroll.pipeline.edits import Edits, edited
from napari_unroll.pipeline.geometry_check import with_axis
from napari_unroll.pipeline.geometry_sweep import offsets_around, with_offset
from napari_unroll.record import Record
from napari_unroll.scan.blurring import luminance
from napari_unroll.scan.limits import LONGEST_MM, SHORTEST_MM
from napari_unroll.scan.scan import Scan


class VolumeChoice(Record):
    """The volume to reconstruct, centred where the scan's default volume is."""

    z: int = Field(64, ge=1, le=8192, description="Voxels along z.", json_schema_extra={"unit": "voxels"})
    y: int = Field(64, ge=1, le=8192, description="Voxels along y.", json_schema_extra={"unit": "voxels"})
    x: int = Field(64, ge=1, le=8192, description="Voxels along x.", json_schema_extra={"unit": "voxels"})
    voxel_mm: float = Field(1.0, ge=SHORTEST_MM, le=LONGEST_MM, description="Edge of a voxel.")


class ScanDock(parts.DockFrame):
    """Open or drag a file, choose layers, or take sample data."""

    heading = "Scan"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-scan")
        self.setAcceptDrops(True)
        self._path: Path | None = None
        self._build_open()
        self._build_facts()
        self._build_volume()
        self._build_check()
        self._build_geometry()
        self.body.addStretch(1)
        self.running = self.add_below(parts.RunRow(self.session.runner))
        self.session.scan_changed.connect(self.show_scan)
        self.show_scan(self.session.scan)

    def _build_open(self) -> None:
        self.samples = parts.button(
            "Sample data", lambda: None, "Generate a scan whose true volume is known.", "samples"
        )
        menu = QMenu(self.samples)
        for name in jobs.SAMPLES:
            menu.addAction(name, lambda name=name: self.open_sample(name))
        self.samples.setMenu(menu)
        self.open = parts.button(
            "Open file…", self._ask_file, "Projections or k-space; files may also be dropped here."
        )
        self.folder = parts.button(
            "Open folder…", self._ask_folder, "A folder of TIFF projections, Nikon, SkyScan or walnut views."
        )
        self.options_fold = parts.Fold("Reader options")
        self.options: ReaderForm | None = None
        self.again = parts.button("Read again", self.read_again, "Read the file with these options.")
        self.options_fold.inner.addWidget(self.again)
        self.options_fold.hide()
        box = parts.Section("Measurements", parts.row(self.open, self.folder, stretch=(1, 1)), self.samples)
        box.layout().addWidget(self.options_fold)
        self.layer_box = LayerBox(self.session, self.remembered)
        self.layer_box.wanted.connect(self.take_layer)
        box.layout().addWidget(self.layer_box)
        self.body.addWidget(box)

    def _build_facts(self) -> None:
        self.facts = parts.Wrapped()
        self.drawing = GeometryView(Theme(self.session.viewer))
        self.view = parts.slider("View", "View shown in the drawing.")
        self.view.valueChanged.connect(self.drawing.show_view)
        self.view.valueChanged.connect(self._follow_setup)
        self.facts_box = parts.Section("What was read", self.facts, self.drawing, self.view)
        self.body.addWidget(self.facts_box)

    def _build_volume(self) -> None:
        self.volume = RecordForm(VolumeChoice)
        self.apply_volume = parts.button("Apply volume", self.set_volume, "Reconstruct on this grid.")
        self.volume_fold = parts.Fold("Volume to reconstruct", self.volume, self.apply_volume)
        self.body.addWidget(self.volume_fold)

    def _build_check(self) -> None:
        self.check = parts.button("Check the operator", self.check_pair, "Measure how well A and its adjoint match.")
        self.pair = parts.Note()
        self.check_box = parts.Section("Forward operator", self.pair, self.check)
        self.body.addWidget(self.check_box)

    def _build_geometry(self) -> None:
        self.geometry_box = GeometryBox(Theme(self.session.viewer))
        self.geometry_box.check_wanted.connect(self.check_geometry)
        self.geometry_box.axis_wanted.connect(self.correct_axis)
        self.geometry_box.setup_wanted.connect(self.show_setup)
        self.geometry_box.sweep.requested.connect(self.try_places)
        self.geometry_box.sweep.picked.connect(self._show_trial)
        self.geometry_box.sweep.taken.connect(self._take_trial)
        self.body.addWidget(self.geometry_box)

    # opening

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a scan")
        if path:
            self.open_path(Path(path))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of projections")
        if path:
            self.open_path(Path(path))

    def open_path(self, path: Path) -> None:
        """Read a file or folder with the defaults of its format, after showing the format's options.

        Of a large one only the header: what it takes is said, and how much of it to read is asked.
        A stored result brings back its scan and the choices that made it.
        """
        if is_result(path):
            self._path = None
            self.options_fold.hide()
            run = self.session.open_stored(path)
            run.finished.connect(lambda finished: self._on_restored(finished, path.name))
            self.message.say("")
            return
        try:
            reader = registry.find_reader(path)
        except UnrollError as error:
            self.message.error(error)
            return
        self._path = path
        self._show_options(reader)
        self._start(jobs.look(path), f"opening {path.name}")

    def read_again(self) -> None:
        """Read the same file with the options in the form."""
        if self._path is None or self.options is None:
            return
        try:
            changed = self.options.changed()
        except UnrollError as error:
            self.message.error(error)
            return
        self._load(changed)

    def preview_corrections(self) -> None:
        """Show a sinogram of the file before and after the corrections in the form."""
        form = self.options
        if self._path is None or form is None:
            return
        try:
            changed = form.changed()
        except UnrollError as error:
            self.message.error(error)
            return
        run = self.session.runner.start(jobs.preview_corrections(self._path, changed), "preview of the corrections")
        run.finished.connect(lambda finished: self._on_preview(finished, form))
        self.message.say("")

    def _on_preview(self, finished: Finished, form: ReaderForm) -> None:
        if finished.result is None:
            self.message.ended(finished)
            self._point_at_missing(finished.advice)
        elif form is self.options:
            form.show_preview(*finished.result)

    def _load(self, options: dict[str, Any]) -> None:
        assert self._path is not None
        self._start(jobs.load(self._path, options), f"reading {self._path.name}")

    def open_sample(self, name: str) -> None:
        """Generate sample data."""
        self._path = None
        self.options_fold.hide()
        self._start(jobs.sample(name), f"generating: {name}")

    def _start(self, make: Any, what: str) -> None:
        run = self.session.runner.start(make, what)
        run.finished.connect(self._on_loaded)
        self.message.say("")

    def _show_options(self, reader: Any) -> None:
        if self.options is not None:
            self.options_fold.inner.removeWidget(self.options)
            self.options.deleteLater()
        self.options = ReaderForm(reader.options, Theme(self.session.viewer))
        self.options.preview_requested.connect(self.preview_corrections)
        self.options_fold.inner.insertWidget(0, self.options)
        self.options_fold.name(f"Reader options: {reader.title}")
        self.options_fold.setVisible(True)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        urls = [u for u in event.mimeData().urls() if u.isLocalFile()]
        if urls:
            self.open_path(Path(urls[0].toLocalFile()))

    # layers as input

    def take_layer(self) -> None:
        """Make a scan of the chosen layer."""
        try:
            layer = self.layer_box.chosen
            if self.layer_box.is_image:
                self._take_image(layer)
                return
            scan = scan_from_array(np.asarray(values_of(layer)), self.layer_box.projections.value(), layer.name)
        except (UnrollError, KeyError) as error:
            self.message.error(error)
            return
        self.message.say("")
        self.session.set_scan(scan)

    def _take_image(self, layer: Image) -> None:
        """Make a scan of an image; blurring a large one takes a while."""
        options: LayerImage = self.layer_box.image.value()
        data = luminance(layer.data) if layer.rgb else np.asarray(values_of(layer))
        grid = image_grid(data.shape, layer.scale, layer.translate)
        self._start(jobs.image_layer(data, grid, options, layer.name), f"using {layer.name}")

    # what came

    def _on_restored(self, finished: Finished, name: str) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.message.say(f"{name} with its scan and its choices: Run in the Reconstruct dock makes it again.", "good")

    def _on_loaded(self, finished: Finished) -> None:
        if finished.outcome is Outcome.FAILED:
            self.message.say(finished.advice, "error")
            self._point_at_missing(finished.advice)
        elif finished.outcome is Outcome.COMPLETED:
            self.message.say("")
            self.session.set_scan(finished.result)
        else:
            self.message.say(finished.advice)

    def _point_at_missing(self, sentence: str) -> None:
        """Open the reader's options where the sentence names one of them."""
        if self.options is None:
            return
        named = [name for name in self.options.fields if f"'{name}'" in sentence]
        if named:
            self.options_fold.button.setChecked(True)
            self.options.focus(named[0])

    def show_scan(self, scan: Scan | None) -> None:
        """Show what a scan holds."""
        has = scan is not None
        for widget in (self.volume_fold, self.check_box, self.view, self.drawing):
            widget.setVisible(has)
        self.pair.setText("")
        self.geometry_box.setVisible(scan is not None and scan.modality == "ct")
        self.geometry_box.show_check(None)
        self.geometry_box.sweep.show_sweep(None)
        self.session.layers.remove(TRIAL)
        self.session.layers.remove(SETUP)
        self.drawing.show_scan(scan)
        if scan is None:
            self.facts.setText("No scan yet. Open a file, use a layer, or take sample data.")
            return
        self.facts.setText(facts_html(scan))
        is_ct = scan.modality == "ct"
        self.volume_fold.setVisible(is_ct)
        self.view.setVisible(is_ct)
        if is_ct:
            self.view.setRange(0, scan.geometry.n_views - 1)  # type: ignore[union-attr]
            self.view.setValue(0)
            z, y, x = scan.grid.shape
            self.volume.set_value(VolumeChoice(z=z, y=y, x=x, voxel_mm=scan.grid.spacing_mm[1]))

    def set_volume(self) -> None:
        """Use the grid in the form."""
        scan = self.session.scan
        if scan is None:
            return
        try:
            wish: VolumeChoice = self.volume.value()
            edits = Edits(shape=(wish.z, wish.y, wish.x), spacing_mm=(wish.voxel_mm,) * 3)
            self.session.set_scan(edited(scan, edits))
        except UnrollError as error:
            self.message.error(error)

    def check_pair(self) -> None:
        """Measure the adjoint error of the projector pair."""
        if self.session.scan is None:
            return
        run = self.session.runner.start(
            jobs.check_pair(self.session.scan, preferences().device), "check of the operator"
        )
        run.finished.connect(self._show_pair)
        self.pair.setText("measuring …")

    def _show_pair(self, finished: Finished) -> None:
        check = finished.result
        if check is None:
            self.pair.setText("")
            self.message.ended(finished)
            return
        self.session.physics = check.physics
        verdict = "matched" if check.adjoint_error < 1e-6 else "not matched"
        self.pair.setText(
            f"Adjoint error {parts.number(check.adjoint_error)} ({verdict}).<br>A {parts.seconds(check.forward_s)}, "
            f"adjoint {parts.seconds(check.adjoint_s)}.<br>{html.escape(check.reason)}"
        )

    # geometry check

    def check_geometry(self) -> None:
        """Lay a reprojection of a quick reconstruction over the measured views."""
        if self.session.scan is None:
            return
        run = self.session.runner.start(jobs.geometry(self.session.scan), "geometry check")
        run.finished.connect(self._on_geometry)
        self.geometry_box.show_check(None)
        self.message.say("")

    def _on_geometry(self, finished: Finished) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.geometry_box.show_check(finished.result)

    def correct_axis(self) -> None:
        """Use the axis that the check found."""
        if self.session.scan is not None and self.geometry_box.check is not None:
            self.session.set_scan(with_axis(self.session.scan, self.geometry_box.check))
            self.message.say("The axis is corrected; check again to be sure.", "good")

    def try_places(self) -> None:
        """Reconstruct the plane that the viewer shows for several places of the detector."""
        scan, quantity = self.session.scan, self.geometry_box.sweep.quantity
        if scan is None:
            return
        offsets = offsets_around(quantity, self.geometry_box.sweep.step.value())
        at = self.session.layers.viewpoint.plane(scan.grid) / max(1, scan.grid.shape[0] - 1)
        run = self.session.runner.start(jobs.geometry_sweep(scan, quantity, offsets, at), "trying places")
        run.finished.connect(self._on_sweep)
        self.geometry_box.sweep.show_sweep(None)
        self.message.say("")

    def _on_sweep(self, finished: Finished) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.geometry_box.sweep.show_sweep(finished.result)

    def _show_trial(self, trial: int) -> None:
        """The chosen slice, large."""
        found = self.geometry_box.sweep.found
        if found is not None:
            self.session.layers.show_trial(found.slices[trial][None], found.grid)

    def _take_trial(self, trial: int) -> None:
        scan, found = self.session.scan, self.geometry_box.sweep.found
        if scan is not None and found is not None:
            self.session.set_scan(with_offset(scan, found, trial))
            self.message.say("The detector is moved; try again to be sure.", "good")

    def show_setup(self) -> None:
        """The set-up at the drawn view as 3-D layers, which follow the slider."""
        if self.session.scan is not None:
            self.session.layers.show_setup(setup_of(self.session.scan, self.view.value()))

    def _follow_setup(self, view: int) -> None:
        if self.session.scan is not None and self.session.layers.ours(SETUP):
            self.session.layers.show_setup(setup_of(self.session.scan, view))
