"""The pieces that every dock is made of: the scrolling frame, messages, sections, progress, live curves.

Knows Qt, pyqtgraph and napari's theme; nothing of scans or methods.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor, QResizeEvent
from qtpy.QtWidgets import (
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unroll.gui.session import session_of
from napari_unroll.gui.worker import Runner

MIN_WIDTH = 330
PLOT_INTERVAL_MS = 250
SERIES = ("#4fa3ff", "#ff9f43", "#5fd38d", "#e66bb2")
COLOURS = {"error": "#ff7b72", "warning": "#e3b341", "good": "#56c271"}


def theme(viewer: Any) -> dict[str, QColor]:
    """The colours of napari's theme: background, foreground (boxes), text, and a highlight."""
    from napari.utils.theme import get_theme

    try:
        found = get_theme(viewer.theme)
        names = {"background": found.background, "foreground": found.foreground, "text": found.text,
                 "highlight": found.current}  # fmt: skip
        return {k: QColor(*c.as_rgb_tuple()[:3]) for k, c in names.items()}
    except Exception:
        return {k: QColor(v) for k, v in
                {"background": "#262930", "foreground": "#414851", "text": "#f0f1f2", "highlight": "#007acc"}.items()}  # fmt: skip


class DockFrame(QWidget):
    """A dock: everything scrolls, a message line stays at the bottom, the width never clips the title."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.session = session_of(viewer)
        self.setMinimumWidth(MIN_WIDTH)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(2, 2, 2, 2)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        content = QWidget()
        self.body = QVBoxLayout(content)
        self.body.setContentsMargins(6, 4, 6, 4)
        self.body.setSpacing(6)
        self._scroll.setWidget(content)
        outer.addWidget(self._scroll, 1)
        self.message = Message()
        outer.addWidget(self.message)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        self._scroll.widget().setMaximumWidth(max(MIN_WIDTH - 24, self._scroll.width() - (bar if bar < 40 else 16)))


class Message(QLabel):
    """One sentence to the user; hidden while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setContentsMargins(8, 4, 8, 6)
        self.kind = "info"
        self.hide()

    def say(self, text: str, kind: str = "info") -> None:
        """Show a sentence: info, good, warning or error; an empty one hides the line."""
        self.kind = kind
        self.setText(text)
        colour = COLOURS.get(kind)
        self.setStyleSheet(f"QLabel {{ color: {colour}; }}" if colour else "")
        self.setVisible(bool(text))

    def error(self, error: object) -> None:
        """Show an error's sentence."""
        self.say(str(error) or type(error).__name__, "error")


def section(title: str, *widgets: QWidget, layout: QVBoxLayout | None = None) -> QGroupBox:
    """A titled box."""
    box = QGroupBox(title)
    inner = QVBoxLayout(box)
    inner.setContentsMargins(8, 8, 8, 8)
    inner.setSpacing(5)
    for widget in widgets:
        inner.addWidget(widget)
    if layout is not None:
        layout.addWidget(box)
    return box


class Fold(QWidget):
    """A section that opens and closes with a click on its title."""

    def __init__(self, title: str, *widgets: QWidget, open_: bool = False) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setChecked(open_)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.button.setStyleSheet("QToolButton { border: none; text-align: left; padding: 3px; }")
        self.content = QWidget()
        self.inner = QVBoxLayout(self.content)
        self.inner.setContentsMargins(8, 0, 0, 4)
        for widget in widgets:
            self.inner.addWidget(widget)
        column.addWidget(self.button)
        column.addWidget(self.content)
        self.button.toggled.connect(self._toggle)
        self._toggle(open_)

    def _toggle(self, on: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.content.setVisible(on)


def row(*widgets: QWidget, stretch: Sequence[int] = ()) -> QWidget:
    """Widgets beside each other."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(5)
    for i, widget in enumerate(widgets):
        layout.addWidget(widget, stretch[i] if i < len(stretch) else 0)
    return holder


def button(text: str, slot: Callable[[], Any], tip: str = "", name: str = "") -> QPushButton:
    """A push button; ``name`` is what tests and style sheets find it by."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setObjectName(name or text)
    made.clicked.connect(lambda *_: slot())
    return made


def wrapped(text: str = "") -> QLabel:
    """A label that wraps and may be copied."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
    return made


class RunBar(QWidget):
    """Progress, stage and time left of the runner, refreshed at 4 Hz while it is busy."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.text = wrapped()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.bar)
        column.addWidget(self.text)
        self._timer = QTimer(self)
        self._timer.setInterval(PLOT_INTERVAL_MS)
        self._timer.timeout.connect(self.show_clock)
        self.reset()

    def start(self) -> None:
        """A run begins."""
        self.bar.setRange(0, 0)
        self.text.setText("starting …")
        self._timer.start()

    def reset(self, text: str = "") -> None:
        """Nothing runs."""
        self._timer.stop()
        self.bar.setRange(0, 100)
        self.bar.setValue(0)
        self.text.setText(text)

    def end(self, complete: bool) -> None:
        """The run is over."""
        self._timer.stop()
        self.bar.setRange(0, 100)
        self.bar.setValue(100 if complete else 0)
        self.text.setText("")

    def show_clock(self) -> None:
        """Show how far the run is."""
        if self._runner.run is None:
            return
        clock = self._runner.run.clock
        if clock.n_steps > 0:
            self.bar.setRange(0, clock.n_steps)
            self.bar.setValue(min(clock.step, clock.n_steps))
        self.text.setText(" · ".join(t for t in (clock.text, clock.left_text) if t))


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
        colours = theme(viewer)
        items = {"left": _LogAxis("left")} if log else {}
        super().__init__(background=colours["background"], axisItems=items, enableMenu=False)
        menu = self.plotItem.ctrlMenu
        menu.setParent(self, menu.windowFlags())  # else it outlives the dock as a window of its own
        self._log = log
        self._data: dict[str, tuple[list[float], list[float]]] = {}
        self._curves: dict[str, pg.PlotDataItem] = {}
        self._last = 0.0
        self.plotItem.setContentsMargins(0, 0, 6, 6)
        self.setFixedHeight(height)
        self.setMinimumWidth(200)
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)
        self.setLogMode(y=log)
        self.showGrid(y=True, alpha=0.15)
        for side, text in (("bottom", x), ("left", y)):
            axis = self.getAxis(side)
            axis.setPen(colours["text"])
            axis.setTextPen(colours["text"])
            axis.setLabel(text)
            axis.enableAutoSIPrefix(False)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.redraw)
        self.hide()

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
        self._later()

    def set(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """Replace a whole curve."""
        good = np.isfinite(y) & ((y > 0) | (not self._log))
        self._data[name] = (list(np.asarray(x, float)[good]), list(np.asarray(y, float)[good]))
        self._later()

    def points(self, name: str) -> tuple[list[float], list[float]]:
        """What a curve holds."""
        return self._data.get(name, ([], []))

    def _later(self) -> None:
        wait = PLOT_INTERVAL_MS - 1e3 * (time.monotonic() - self._last)
        if not self._timer.isActive():
            self._timer.start(max(0, int(wait)))

    def redraw(self) -> None:
        """Draw now."""
        self._last = time.monotonic()
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


def number(value: float) -> str:
    """A number in four digits, small ones as powers of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def seconds(value: float) -> str:
    """A duration in ms or s; a dash where it was not measured."""
    if not math.isfinite(value):
        return "–"
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
