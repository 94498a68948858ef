"""Part of the Normal operator dock: the errors of the last fit in words, and a table of all fits. Fits nothing."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidgetItem, QVBoxLayout, QWidget

from napari_unroll.gui import parts
from napari_unroll.gui.normal_jobs import Fitted
from napari_unroll.normal import report

COLUMNS = {
    "form": "Form of the approximation.",
    "final": "Relative error that Ñ in place of N causes in a reconstructed image.",
    "images": "‖N x − Ñ x‖ / ‖N x‖ for image-like x.",
    "noise": "‖N x − Ñ x‖ / ‖N x‖ for white noise x, dominated by frequencies that images hardly have.",
    "N used": "Exact operator applications of the fit, without those that measure its errors.",
    "s": "Seconds of the fit.",
}
"""Column of the table of fits → its tooltip."""
MOST_ROWS = 4
"""That are seen at once."""


class FitsBox(QWidget):
    """``errors`` of the last fit, and ``table`` with a row for every fit of the scan."""

    def __init__(self) -> None:
        super().__init__()
        self.errors = parts.Wrapped()
        self.errors.setMinimumHeight(len(report.NORMS) * self.errors.fontMetrics().lineSpacing() + 4)
        self.table = parts.table(COLUMNS)
        parts.explain(
            self.table, "Fits so far", "A row for every fit of this scan; the titles of the columns explain them."
        )
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addWidget(self.errors)
        column.addWidget(self.table)
        self.forget()

    def forget(self) -> None:
        """There is no fit."""
        self.table.setRowCount(0)
        self._fit_height()
        self.errors.setText("")
        self.errors.hide()

    def add(self, fitted: Fitted) -> None:
        """One more fit."""
        info = fitted.factors.info
        measured = [(words, text) for kind, words in report.NORMS.items() if (text := report.error(info, kind))]
        self.errors.setText("<br>".join(f"<b>{text}</b> {words}" for words, text in measured))
        self.errors.setVisible(bool(measured))
        errors = (report.percent(info.get(f"error_{kind}")) for kind in report.NORMS)
        values = (fitted.factors.form, *errors, f"{info.get('operator_calls', 0):.0f}", f"{fitted.seconds:.3g}")
        at = self.table.rowCount()
        self.table.insertRow(at)
        for column, text in enumerate(values):
            item = QTableWidgetItem(text)
            item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            self.table.setItem(at, column, item)
        self._fit_height()
        self.table.scrollToBottom()

    def _fit_height(self) -> None:
        """As many rows as there are, one at least; what is beyond MOST_ROWS scrolls."""
        header, row = (
            self.table.horizontalHeader().sizeHint().height(),
            self.table.verticalHeader().defaultSectionSize(),
        )
        rows = min(max(self.table.rowCount(), 1), MOST_ROWS)
        self.table.setFixedHeight(header + rows * row + 2 * self.table.frameWidth() + 2)
