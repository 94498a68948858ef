"""The pieces that every dock is made of: the scrolling frame, messages, sections, progress.

Knows Qt and napari's theme; nothing of scans or methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from qtpy.QtCore import QEvent, QPoint, Qt, QTimer
from qtpy.QtGui import QKeySequence, QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTableWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledSlider, QSearchableComboBox

from napari_unroll.events import Finished, Outcome
from napari_unroll.gui.fold import Fold as Fold  # every dock finds it here
from napari_unroll.gui.memory import Memory
from napari_unroll.gui.pages import Page
from napari_unroll.gui.session import session_of
from napari_unroll.gui.theme import Theme
from napari_unroll.gui.worker import Runner

W = TypeVar("W", bound=QWidget)
MIN_WIDTH = 330
CLOCK_INTERVAL_MS = 250
COLOURS = {"error": ("#ff7b72", "#b3261e"), "warning": ("#e3b341", "#7a5200"), "good": ("#56c271", "#1a6b33")}
"""Of messages, on dark and on light themes."""


class DockFrame(QWidget):
    """A dock: everything scrolls, a message line stays at the bottom, the width never clips the title.

    ``page`` and ``heading`` are the section of the documentation that the question mark opens. ``remembered`` keeps forms
    from session to session, until the arrow beside it is pressed.
    """

    page, heading = "docks.md", ""

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
        self.remembered = Memory(self.heading)
        self.help_button = tool("?", self.show_page, "Open the documentation of this dock.")
        self.reset_button = tool(
            "↺", self.remembered.reset, "Back to the defaults of the settings that this dock remembers."
        )
        self.body.addWidget(row(QWidget(), self.reset_button, self.help_button, stretch=(1, 0, 0)))
        outer.addWidget(self._scroll, 1)
        self.message = Message(viewer)
        outer.addWidget(self.message)
        self._outer = outer

    def add_below(self, widget: W) -> W:
        """Put ``widget`` between what scrolls and the message line; returns it."""
        self._outer.insertWidget(1, widget)
        return widget

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.reset_button.setVisible(self.remembered.has_any)

    def show_page(self) -> None:
        """Open the documentation of this dock."""
        page = Page(self.page, self.heading, self)
        page.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        page.show()

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
        self._theme = Theme(viewer)
        self.kind = "info"
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setContentsMargins(8, 4, 8, 6)
        self.hide()

    def say(self, text: str, kind: str = "info") -> None:
        """Show a sentence: info, good, warning or error; an empty one hides the line."""
        self.kind = kind
        self.setText(text)
        self._paint()
        self.setVisible(bool(text))

    def ended(self, finished: Finished) -> None:
        """Say how a run ended, as an error where it failed."""
        self.say(*ending(finished))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._paint()

    def _paint(self) -> None:
        colour = COLOURS.get(self.kind, ("", ""))[self._theme.is_light]
        style = f"QLabel {{ color: {colour}; }}" if colour else ""
        if style != self.styleSheet():
            self.setStyleSheet(style)

    def error(self, error: object) -> None:
        """Show an error's sentence."""
        self.say(str(error) or type(error).__name__, "error")


def ending(finished: Finished) -> tuple[str, str]:
    """How a run ended, in words, and the kind of such a sentence (see :class:`Message`)."""
    return finished.advice, "error" if finished.outcome is Outcome.FAILED else "info"


class Section(QGroupBox):
    """A titled box of widgets, one below the other."""

    def __init__(self, title: str, *widgets: QWidget) -> None:
        super().__init__(title)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(8, 8, 8, 8)
        self._column.setSpacing(5)
        self.put(*widgets)

    def put(self, *widgets: QWidget) -> None:
        """Add widgets at its end."""
        for widget in widgets:
            self._column.addWidget(widget)


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


def tool(text: str, slot: Callable[[], Any], tip: str) -> QToolButton:
    """A small button with one sign, in line with the title."""
    made = QToolButton()
    made.setText(text)
    made.setAutoRaise(True)
    made.clicked.connect(lambda *_: slot())
    return explain(made, tip.rstrip("."), tip)


def explain(widget: W, name: str, tip: str) -> W:
    """Say what a widget without words of its own is: ``name`` to screen readers, ``tip`` under the mouse. Returns it."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    return widget


def table(columns: Mapping[str, str]) -> QTableWidget:
    """An empty table to look at: title of every column → its tooltip."""
    made = QTableWidget(0, len(columns))
    made.setHorizontalHeaderLabels(list(columns))
    for column, tip in enumerate(columns.values()):
        made.horizontalHeaderItem(column).setToolTip(tip)
    made.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    made.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    made.verticalHeader().hide()
    return made


def slider(name: str, tip: str) -> QLabeledSlider:
    """A slider with its value beside it, which can be typed into."""
    made = QLabeledSlider(Qt.Orientation.Horizontal)
    for widget in (made, *made.findChildren(QWidget)):
        explain(widget, name, tip)
    return made


class Searchable(QSearchableComboBox):
    """A long list in which one types a part of what is meant; what is no entry gives way to the chosen one."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.lineEdit().editingFinished.connect(self._settle)
        self.currentIndexChanged.connect(lambda *_: self.lineEdit().setCursorPosition(0))

    def setCurrentIndex(self, index: int) -> None:
        super().setCurrentIndex(index)
        self.lineEdit().setCursorPosition(0)  # a long entry shows its beginning

    def _settle(self) -> None:
        found = self.findText(self.currentText(), Qt.MatchFlag.MatchFixedString)
        self.setCurrentIndex(self.currentIndex() if found < 0 else found)
        self.setEditText(self.itemText(self.currentIndex()))
        self.lineEdit().setCursorPosition(0)


def shortcut(pressed: QPushButton, keys: str) -> None:
    """Let ``keys`` press a button wherever the dock has the focus; the tip tells."""
    pressed.setShortcut(QKeySequence(keys))
    pressed.setToolTip(f"{pressed.toolTip()} ({keys})".strip())


class Wrapped(QLabel):
    """A label that wraps and may be copied."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)


class Note(Wrapped):
    """The same, there only while it says something."""

    def __init__(self) -> None:
        super().__init__()
        self.hide()

    def setText(self, text: str) -> None:
        super().setText(text)
        self.setVisible(bool(text))


class RunBar(QWidget):
    """Progress, stage and time left of the runner, refreshed at 4 Hz while it is busy."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.text = Wrapped()
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
