"""The pieces that every dock is made of: the scrolling frame, messages, sections, progress.

Knows Qt and napari's theme; nothing of scans or methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtGui import QColor, QKeySequence, QResizeEvent
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

W = TypeVar("W", bound=QWidget)
MIN_WIDTH = 330
CLOCK_INTERVAL_MS = 250
COLOURS = {"error": ("#ff7b72", "#b3261e"), "warning": ("#e3b341", "#7a5200"), "good": ("#56c271", "#1a6b33")}
"""Of messages, on dark and on light themes."""


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
        self.message = Message(viewer)
        outer.addWidget(self.message)
        self._outer = outer

    def add_below(self, widget: W) -> W:
        """Put ``widget`` between what scrolls and the message line; returns it."""
        self._outer.insertWidget(1, widget)
        return widget

    def show_from(self, widget: QWidget) -> None:
        """Scroll so that ``widget`` stands at the top."""
        at = widget.mapTo(self._scroll.widget(), QPoint(0, 0)).y()
        self._scroll.verticalScrollBar().setValue(at)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        self._scroll.widget().setMaximumWidth(max(MIN_WIDTH - 24, self._scroll.width() - (bar if bar < 40 else 16)))


class Message(QLabel):
    """One sentence to the user; hidden while there is none."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setContentsMargins(8, 4, 8, 6)
        self.kind = "info"
        self.hide()

    def say(self, text: str, kind: str = "info") -> None:
        """Show a sentence: info, good, warning or error; an empty one hides the line."""
        self.kind = kind
        self.setText(text)
        light = theme(self._viewer)["background"].lightness() > 127
        colour = COLOURS.get(kind, ("", ""))[light]
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


def explain(widget: W, name: str, tip: str) -> W:
    """Say what a widget without words of its own is: ``name`` to screen readers, ``tip`` under the mouse. Returns it."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    return widget


def shortcut(pressed: QPushButton, keys: str) -> None:
    """Let ``keys`` press a button wherever the dock has the focus; the tip tells."""
    pressed.setShortcut(QKeySequence(keys))
    pressed.setToolTip(f"{pressed.toolTip()} ({keys})".strip())


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
        self._timer.setInterval(CLOCK_INTERVAL_MS)
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
        share = clock.share
        self.bar.setRange(0, 0 if share is None else 1000)  # while it is unknown it shows that something goes on
        self.bar.setValue(round(1000 * (share or 0.0)))
        self.text.setText(" · ".join(t for t in (clock.stage, clock.left_text) if t))


class RunRow(QWidget):
    """The bar of a runner with Cancel beside it; there while the runner is busy."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.bar = RunBar(runner)
        self.cancel = button("Cancel", runner.cancel, "Give up what is going on.", "cancel")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 2)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.cancel, 0, Qt.AlignmentFlag.AlignTop)
        runner.busy_changed.connect(self._follow)
        self._follow(runner.busy)

    def _follow(self, busy: bool) -> None:
        self.bar.start() if busy else self.bar.reset()
        self.setVisible(busy)


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
