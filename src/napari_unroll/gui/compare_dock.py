"""The Compare dock: volumes against a reference: numbers, differences, side by side, shells of frequencies, line profiles.

Wires layers to ``pipeline.metrics``; no numerics.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHeaderView,
    QLabel,
    QTableWidgetItem,
)

from napari_unroll.errors import ScanError
from napari_unroll.events import Event, Finished, Outcome, Progress, Started
from napari_unroll.gui import parts
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.images import contrast
from napari_unroll.gui.layers import DIFFERENCE
from napari_unroll.gui.placement import ROLE, grid_of, values_of
from napari_unroll.gui.profile_box import ProfileBox, short
from napari_unroll.io.atomic import replacing
from napari_unroll.pipeline.metrics import difference, fsc, nrmse, psnr, ssim
from napari_unroll.scan.scan import Scan

COLUMNS = {
    "volume": "Ticked volumes are measured, shown and drawn.",
    "PSNR (dB)": "Peak signal-to-noise ratio; the reference's largest value is the peak.",
    "SSIM": "Structural similarity; 1 for equal volumes.",
    "NRMSE": "‖x − reference‖ / ‖reference‖.",
}
"""Column → its tooltip."""


@dataclass(frozen=True)
class Closeness:
    """One volume against the reference: numbers, the correlation of shells of frequencies, and the difference."""

    numbers: tuple[str, str, str]
    shells: tuple[np.ndarray, np.ndarray]
    difference: np.ndarray


def measure(
    volumes: dict[str, np.ndarray], reference: np.ndarray, spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> Iterator[Event]:
    """Every volume against the reference; the result is name → :class:`Closeness`."""
    yield Started("comparison", len(volumes))
    found: dict[str, Closeness] = {}
    for i, (name, values) in enumerate(volumes.items()):
        errors = (psnr(values, reference), ssim(values, reference), nrmse(values, reference))
        numbers = (f"{errors[0]:.2f}", f"{errors[1]:.3f}", f"{errors[2]:.3f}")
        found[name] = Closeness(numbers, fsc(values, reference, spacing_mm), difference(values, reference))
        yield Progress(i + 1, len(volumes), name)
    yield Finished(Outcome.COMPLETED, found)


class CompareDock(parts.DockFrame):
    """Numbers and profiles of the volumes that share a reference's grid."""

    heading = "Compare"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.setObjectName("unroll-compare")
        self._build_reference()
        self._build_table()
        self._build_shells()
        self._build_profile()
        self.body.addStretch(1)
        self.running = self.add_below(parts.RunRow(self.session.runner))
        self.session.layers_changed.connect(self._list_layers)
        self.session.scan_changed.connect(self._on_scan)
        self._list_layers()

    def _build_reference(self) -> None:
        self.reference = QComboBox()
        self.reference.setObjectName("reference")
        parts.explain(self.reference, "Reference", "The layer that the others are measured against.")
        self.reference.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.reference.currentTextChanged.connect(self._on_reference)
        self.body.addWidget(parts.row(QLabel("Reference"), self.reference, stretch=(0, 1)))

    def _build_table(self) -> None:
        self.found: dict[str, Closeness] = {}
        self.table = parts.table(COLUMNS)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in range(1, len(COLUMNS)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.table.setMinimumHeight(130)
        parts.explain(self.table, "Volumes against the reference", "Ticked volumes are measured, shown and drawn.")
        self.measure_button = parts.button("Measure", self.measure, "Compare with the reference.", "measure")
        self.difference_button = parts.button(
            "Differences", self.show_differences, "Measured volumes minus the reference, as layers with one contrast."
        )
        self.save_button = parts.button("Save table…", self._ask_save, "The numbers as comma-separated values.")
        for needs_numbers in (self.difference_button, self.save_button):
            needs_numbers.setEnabled(False)
        self.side_button = parts.button("Side by side", self.side_by_side, "Ticked volumes in a grid, same contrast.")
        self.single_button = parts.button("One view", self.one_view, "Back from the grid to a single view.")
        box = parts.Section(
            "Volumes", self.table,
            parts.row(self.measure_button, self.difference_button, self.save_button, stretch=(1, 1, 1)),
            parts.row(self.side_button, self.single_button, stretch=(1, 1)),
        )  # fmt: skip
        self.body.addWidget(box)

    def _build_shells(self) -> None:
        self.shells = Curve(self.session.viewer, "cycles per mm", "correlation", height=170)
        self.shells.setToolTip(
            "Fourier shell correlation with the reference: 1 where equal, 0 where nothing is common."
        )
        self.body.addWidget(parts.Fold("Correlation by frequency", self.shells))

    def _build_profile(self) -> None:
        self.profile = ProfileBox(self.session)
        self.profile.wanted.connect(self.draw_profile)
        self.body.addWidget(self.profile)

    # layers

    def _volumes(self) -> list[Image]:
        return [
            layer for layer in self.session.viewer.layers
            if isinstance(layer, Image) and layer.ndim == 3
            and layer.metadata.get(ROLE) not in ("measurements", "arrived", DIFFERENCE)
        ]  # fmt: skip

    def _list_layers(self) -> None:
        chosen = self.reference.currentText()
        volumes = self._volumes()
        names = [layer.name for layer in volumes]
        truths = [layer.name for layer in volumes if layer.metadata.get(ROLE) == "truth" and "phase" not in layer.name]
        self.reference.blockSignals(True)
        self.reference.clear()
        self.reference.addItems(names)
        if chosen in names or truths:
            self.reference.setCurrentText(chosen if chosen in names else truths[0])
        self.reference.blockSignals(False)
        self._on_reference()

    def _on_scan(self, scan: Scan | None) -> None:
        self.profile.forget()

    def _on_reference(self, name: str = "") -> None:
        reference = self._reference()
        shape = None if reference is None else values_of(reference).shape
        fitting = [v for v in self._volumes() if values_of(v).shape == shape and v is not reference]
        kept = {self._name(r): self._row(r) for r in range(self.table.rowCount())}
        self.table.setRowCount(0)
        for volume in fitting:
            if "phase" not in volume.name and not str(volume.metadata.get(ROLE)).startswith("normal"):
                self._add_row(volume.name, *kept.get(volume.name, (True, "", "", "")))
        for widget in (self.measure_button, self.side_button, self.profile.button):
            widget.setEnabled(reference is not None)

    def _name(self, at: int) -> str:
        """The layer of a row; the cell shows only the part of the name after the scan's."""
        return str(self.table.item(at, 0).data(Qt.ItemDataRole.UserRole))

    def _row(self, at: int) -> tuple[bool, str, str, str]:
        ticked = self.table.item(at, 0).checkState() == Qt.CheckState.Checked
        return ticked, *(self.table.item(at, c).text() for c in range(1, len(COLUMNS)))

    def _add_row(self, name: str, ticked: bool, *numbers: str) -> None:
        at = self.table.rowCount()
        self.table.insertRow(at)
        first = QTableWidgetItem(short(name))
        first.setToolTip(name)
        first.setData(Qt.ItemDataRole.UserRole, name)
        first.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        self.table.setItem(at, 0, first)
        for column, text in enumerate(numbers, start=1):
            item = QTableWidgetItem(text)
            item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            self.table.setItem(at, column, item)

    def _reference(self) -> Image | None:
        found = [layer for layer in self.session.viewer.layers if layer.name == self.reference.currentText()]
        return found[0] if found else None

    def _ticked(self) -> list[Image]:
        rows = range(self.table.rowCount())
        names = [self._name(r) for r in rows if self._row(r)[0]]
        return [self.session.viewer.layers[n] for n in names if n in self.session.viewer.layers]

    # work

    def measure(self) -> None:
        """Measure the ticked volumes."""
        reference, ticked = self._reference(), self._ticked()
        if reference is None or not ticked:
            self.message.say("Tick at least one volume and choose a reference of the same size.", "warning")
            return
        self.message.say("")
        volumes = {layer.name: np.array(values_of(layer)) for layer in ticked}
        truth, spacing = np.asarray(values_of(reference)), tuple(abs(float(s)) for s in reference.scale)
        run = self.session.runner.start(lambda stop: measure(volumes, truth, spacing), "comparison")
        run.finished.connect(self._on_measured)

    def _on_measured(self, finished: Finished) -> None:
        if finished.result is None:
            self.message.ended(finished)
            return
        self.found = finished.result
        for at in range(self.table.rowCount()):
            if found := self.found.get(self._name(at)):
                for column, number in enumerate(found.numbers, start=1):
                    self.table.item(at, column).setText(number)
        self.shells.clear_curves()
        for name, found in self.found.items():
            self.shells.set(short(name), *found.shells)
        for needs_numbers in (self.difference_button, self.save_button):
            needs_numbers.setEnabled(bool(self.found))

    def show_differences(self) -> None:
        """The differences that were measured, as one group of layers that is replaced."""
        reference = self._reference()
        shape = None if reference is None else values_of(reference).shape
        found = {short(name): f.difference for name, f in self.found.items()}
        fitting = {name: d for name, d in found.items() if d.shape == shape}
        if reference is None or not fitting:
            self.message.say("Measure first: the differences are those of the last measurement.", "warning")
            return
        try:
            self.session.layers.show_differences(fitting, grid_of(reference))
        except ScanError as error:
            self.message.error(error)

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", "comparison.csv", "Tables (*.csv)")
        if path:
            self.save_table(Path(path))

    def save_table(self, path: Path) -> None:
        """Write the numbers, a line for every volume."""
        try:
            with (
                replacing(path, overwrite=True) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as stream,
            ):
                lines = csv.writer(stream)
                lines.writerow(["reference", *COLUMNS])
                for name, found in self.found.items():
                    lines.writerow([self.reference.currentText(), name, *found.numbers])
        except OSError as error:
            self.message.error(error)
            return
        self.message.say(f"Saved {path.name}.", "good")

    def side_by_side(self) -> None:
        """Show the reference and the ticked volumes in a grid with the reference's contrast."""
        reference = self._reference()
        if reference is None:
            return
        shown = [*self._ticked(), reference]
        limits = contrast(values_of(reference))
        for layer in shown:
            layer.contrast_limits = limits
        self.session.layers.link_contrast(shown)
        self.session.layers.side_by_side(shown)

    def one_view(self) -> None:
        """Leave the grid and show the topmost ticked volume."""
        ticked = self._ticked()
        self.session.layers.link_contrast([])
        self.session.layers.side_by_side(ticked[-1:], on=False)
        if ticked:
            self.session.layers.show_only(ticked[-1:])

    def draw_profile(self) -> None:
        """Draw the reference and the ticked volumes along a line; one in the view needs it whole."""
        reference = self._reference()
        if reference is None:
            return
        if self.profile.is_drawn and self.session.viewer.canvas.grid.enabled:
            self.one_view()
        self.profile.show_volumes(reference, self._ticked())
