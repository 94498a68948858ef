"""Part of the Normal operator dock: a drawn region, and what Ñ does there in a patch of any size and with few coils.

Asks by signals and shows what comes; applies no operator.
"""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget
from superqt.utils import QSignalDebouncer

from napari_unroll.gui import parts
from napari_unroll.normal import report
from napari_unroll.normal.swap import Swap


class RegionBox(QWidget):
    """The button that begins a region, the slider of the patch, the fits to choose from, and the errors of all of them."""

    drawing_requested = Signal()
    requested = Signal()
    shown = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.found: Swap | None = None
        self.draw_button = parts.button(
            "Draw a region", self.drawing_requested.emit,
            "Puts a rectangle into the view; move or reshape it, and see what Ñ in place of N does there.", "region",
        )  # fmt: skip
        self.edge = parts.slider(
            "Edge of the patch", "Edge of the patch about the region in which Ñ takes the place of N."
        )
        self.edge.setRange(2, 128)
        self.fits = QComboBox()
        parts.explain(
            self.fits, "Fit that is shown", "The fit whose Ñ is shown in the patch; the table above lists them."
        )
        self.coils = parts.slider(
            "Virtual coils K", "Number of virtual coils of one more Ñ; with fewer it is faster and less exact."
        )
        self.coils_row = parts.row(QLabel("Virtual coils K"), self.coils, stretch=(0, 1))
        self.numbers = parts.Note()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.draw_button)
        self.settings = parts.row(QLabel("Patch"), self.edge, self.fits, stretch=(0, 1, 1))
        column.addWidget(self.settings)
        column.addWidget(self.coils_row)
        column.addWidget(self.numbers)
        self._later = QSignalDebouncer(parent=self)
        self._later.setTimeout(100)
        self._later.triggered.connect(self.requested)
        self.edge.valueChanged.connect(lambda *_: self._later.throttle())
        self.fits.currentIndexChanged.connect(lambda *_: self._show())
        self.coils.valueChanged.connect(self._on_coils)
        self.list_fits([])
        self.settings.hide()

    def list_fits(self, names: Sequence[str], n_coils: int = 0) -> None:
        """The fits so far, of which the last is shown; for several coils one of fewer, virtual coils more."""
        self._n_coils = n_coils if n_coils > 1 else 0
        self.coils.blockSignals(True)
        self.coils.setRange(1, max(2, n_coils))
        self.coils.blockSignals(False)
        self.fits.blockSignals(True)
        self.fits.clear()
        self.fits.addItems([f"{k + 1}: {name}" for k, name in enumerate(names)])
        if self.n_virtual:
            self.fits.addItem("virtual coils")
        self.fits.setCurrentIndex(len(names) - 1)
        self.fits.blockSignals(False)
        self.show_swap(None)

    @property
    def n_virtual(self) -> int:
        """How many virtual coils the last Ñ shall have, 0 where there are no coils."""
        return int(self.coils.value()) if self._n_coils else 0

    def _on_coils(self, *_: object) -> None:
        """Who moves the slider wants to see what it does."""
        self.fits.blockSignals(True)
        self.fits.setCurrentIndex(self.fits.count() - 1)
        self.fits.blockSignals(False)
        self.look_again()

    def look_again(self) -> None:
        """The region has changed."""
        self._later.throttle()

    def show_swap(self, found: Swap | None) -> None:
        """The errors of all fits in the region, or nothing."""
        self.found = found
        self.settings.setVisible(found is not None or bool(self.numbers.text()))
        self.numbers.setText("" if found is None else self._words(found))
        self.coils_row.setVisible(found is not None and bool(self.n_virtual))
        if found is not None:
            self.settings.show()
            self._show()

    def _words(self, found: Swap) -> str:
        size = " × ".join(str(side.stop - side.start) for side in found.box)
        names = [self.fits.itemText(k) for k in range(self.fits.count())]
        if self.n_virtual:
            names[-1] += f" (K = {self.n_virtual})"
        errors = [f"{name} {report.percent(error)}" for name, error in zip(names, found.errors, strict=True)]
        return f"Ñ in a patch of {size}, error in the region: <b>{', '.join(errors)}</b>"

    def _show(self) -> None:
        if self.found is not None and 0 <= self.fits.currentIndex() < len(self.found.volumes):
            self.shown.emit(self.fits.currentIndex())
