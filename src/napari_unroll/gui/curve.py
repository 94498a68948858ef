"""Live curves, drawn by pyqtgraph at a limited rate.

Knows Qt and the theme's colours; nothing of what a curve means.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QEvent
from superqt.utils import QSignalThrottler

from napari_unroll.gui.theme import Theme

PLOT_INTERVAL_MS = 250
SERIES = ("#4fa3ff", "#ff9f43", "#5fd38d", "#e66bb2")


class _LogAxis(pg.AxisItem):
    """A logarithmic axis that labels 1, 2 and 5 of every decade, only decades where there are many."""

    def logTickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        decades = abs(self.range[1] - self.range[0])
        wanted = set(range(1, 10)) if decades < 0.7 else {1, 2, 5} if decades < 2.5 else {1}
        numbers = [10.0**v for v in values]
        return [
            f"{n:.3g}" if round(n / 10 ** math.floor(v + 1e-9)) in wanted else ""
            for n, v in zip(numbers, values, strict=True)
        ]


class Curve(pg.PlotWidget):
    """Named live curves, redrawn at most four times a second; hidden while there is nothing to draw.

    The names stand above the plot in their colours, where they cover nothing.
    """

    def __init__(self, viewer: Any, x: str, y: str, log: bool = False, height: int = 165) -> None:
        self._theme = Theme(viewer)
        items = {"left": _LogAxis("left")} if log else {}
        super().__init__(axisItems=items, enableMenu=False)
        menu = self.plotItem.ctrlMenu
        menu.setParent(self, menu.windowFlags())  # else it outlives the dock as a window of its own
        self._log = log
        self._data: dict[str, tuple[list[float], list[float]]] = {}
        self._curves: dict[str, pg.PlotDataItem] = {}
        self.plotItem.setContentsMargins(0, 0, 6, 6)
        self.setFixedHeight(height)
        self.setMinimumWidth(200)
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)
        self.setLogMode(y=log)
        self.showGrid(y=True, alpha=0.15)
        for side, text in (("bottom", x), ("left", y)):
            axis = self.getAxis(side)
            axis.setLabel(text)
            axis.enableAutoSIPrefix(False)
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(PLOT_INTERVAL_MS)
        self._later.triggered.connect(self.redraw)
        self._colour()
        self.hide()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_later"):
            self._colour()

    def _colour(self) -> None:
        """Take the theme's colours."""
        self.setBackground(self._theme["background"])
        for side in ("bottom", "left"):
            self.getAxis(side).setPen(self._theme["text"])
            self.getAxis(side).setTextPen(self._theme["text"])

    def clear_curves(self) -> None:
        """Forget every curve."""
        for curve in self._curves.values():
            self.removeItem(curve)
        self._curves.clear()
        self._data.clear()
        self.hide()

    def add(self, name: str, x: float, y: float | None) -> None:
        """Append a point; points that cannot be drawn are left out."""
        if y is None or not math.isfinite(y) or (self._log and y <= 0):
            return
        xs, ys = self._data.setdefault(name, ([], []))
        xs.append(float(x))
        ys.append(float(y))
        self._later.throttle()

    def set(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """Replace a whole curve."""
        good = np.isfinite(y) & ((y > 0) | (not self._log))
        self._data[name] = (list(np.asarray(x, float)[good]), list(np.asarray(y, float)[good]))
        self._later.throttle()

    def points(self, name: str) -> tuple[list[float], list[float]]:
        """What a curve holds."""
        return self._data.get(name, ([], []))

    def redraw(self) -> None:
        """Draw now."""
        for name, (xs, ys) in self._data.items():
            if name not in self._curves:
                self._add_curve(name)
            self._curves[name].setSymbol("o" if len(xs) < 60 else None)
            self._curves[name].setData(xs, ys)
        self.setVisible(bool(self._data))

    def _add_curve(self, name: str) -> None:
        pen = pg.mkPen(SERIES[len(self._curves) % len(SERIES)], width=2)
        self._curves[name] = self.plot(
            [], [], pen=pen, name=name, symbolSize=4, symbolBrush=pen.color(), symbolPen=None
        )
        names = [f"<span style='color:{c}'>● {n}</span>" for n, c in zip(self._curves, SERIES, strict=False)]
        self.setTitle("&nbsp;&nbsp;".join(names), size="8pt")
