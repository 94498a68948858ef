"""Part of the Scan dock: slices for several places of the detector, of which a click takes one.

Asks by signals and shows what comes; reconstructs nothing.
"""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_unroll.gui import parts
from napari_unroll.gui.inputs import NumberBox
from napari_unroll.gui.slices import Slices
from napari_unroll.gui.theme import Theme
from napari_unroll.pipeline.geometry_sweep import QUANTITIES, GeometrySweep, Quantity

PER_ROW = 3


class SweepBox(parts.Fold):
    """Quantity and step; a strip of slices; the button that takes the chosen one."""

    requested = Signal()
    picked = Signal(int)
    taken = Signal(int)

    def __init__(self, colours: Theme) -> None:
        super().__init__("Try other places")
        self.found: GeometrySweep | None = None
        self.trial = 0
        self._quantity = QComboBox()
        self._quantity.addItems([q.title for q in QUANTITIES])
        parts.explain(self._quantity, "What is tried", "What is changed between the slices.")
        self.step = NumberBox()
        self.step.setRange(0.05, 500)
        parts.explain(self.step, "Step between two slices", "Step between two slices.")
        self.try_button = parts.button(
            "Try", self.requested.emit,
            "Reconstruct the plane that the viewer shows for places around the present one.", "sweep",
        )  # fmt: skip
        self.strip = Slices(colours, PER_ROW)
        self.strip.setToolTip("Click on the sharpest slice; the viewer shows it large.")
        self.strip.setAccessibleName("Slices for several places of the detector")
        self.advice = parts.Wrapped()
        self.take_button = parts.button("Use this place", self._take, "Move the detector to where this slice has it.")
        choice = parts.row(self._quantity, self.step, self.try_button, stretch=(2, 1, 0))
        for widget in (choice, self.advice, self.strip, self.take_button):
            self.inner.addWidget(widget)
        self._quantity.currentIndexChanged.connect(self._on_quantity)
        self.strip.picked.connect(lambda name: self.pick(self._names().index(name)))
        self._on_quantity()
        self.show_sweep(None)

    @property
    def quantity(self) -> Quantity:
        """What is tried."""
        return QUANTITIES[self._quantity.currentIndex()]

    def choose(self, title: str) -> None:
        """Try a quantity by its title."""
        self._quantity.setCurrentText(title)

    def _on_quantity(self, *_: object) -> None:
        self.step.setSuffix(f" {self.quantity.unit}")
        self.step.setValue(self.quantity.step)

    def _names(self) -> list[str]:
        found = self.found
        return [] if found is None else [f"{o:+g} {found.quantity.unit}" if o else "now" for o in found.offsets]

    def show_sweep(self, found: GeometrySweep | None) -> None:
        """Show the slices of a sweep, the one of the largest contrast chosen, or nothing."""
        self.found = found
        self.strip.show_images({} if found is None else dict(zip(self._names(), found.slices, strict=True)))
        for widget in (self.advice, self.take_button):
            widget.setVisible(found is not None)
        if found is None:
            return
        best = found.best
        self.advice.setText(
            "Click on the sharpest slice."
            if best is None
            else f"The slice “{self._names()[best]}” has the most contrast; click on the one that you find sharpest."
        )
        self.pick(found.offsets.index(0.0) if best is None else best)

    def pick(self, trial: int) -> None:
        """Choose a slice."""
        self.trial = trial
        name = self._names()[trial]
        self.strip.choose(name)
        self.take_button.setEnabled(name != "now")
        self.picked.emit(trial)

    def _take(self) -> None:
        self.taken.emit(self.trial)
