"""What the menu opens: docks that are on screen at once and fill themselves when the heavy imports are done.

Imports nothing heavy itself. The docks proper (``scan_dock`` and so on) can be used directly as well.
"""

from __future__ import annotations

import logging
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QHideEvent, QPaintEvent, QShowEvent
from qtpy.QtWidgets import QDockWidget, QMainWindow, QProgressBar, QVBoxLayout, QWidget

from napari_unroll.events import Event, Progress
from napari_unroll.gui import heavy, parts
from napari_unroll.gui.loading import loader

DOCK_WIDTH = 400
"""Room for the tabs of all docks."""

log = logging.getLogger(__name__)


class OpeningDock(QWidget):
    """An empty frame that says what is loading, then holds the dock proper.

    ``dock`` is the dock proper, None until it is there; ``ready`` is emitted with it, ``failed`` with a sentence.
    The imports begin behind the first paint, so that nothing slows the opening; a frame that was hidden meanwhile fills
    itself when it is shown again. Scripts that cannot wait call ``open_now``.
    """

    ready = Signal(object)
    failed = Signal(str)

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.dock: QWidget | None = None
        self._viewer = napari_viewer
        self._asked = self._placed = False
        self.setMinimumWidth(parts.MIN_WIDTH)
        self.message = parts.Message(napari_viewer)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(8, 4, 8, 4)
        for widget in (self.message, self.bar):
            self._column.addWidget(widget)
        self._column.addStretch(1)
        self.message.say("Loading …")
        loader().told.connect(self._on_told)
        loader().ended.connect(self._on_ended)

    def make(self) -> QWidget:
        """The dock proper; its module is imported here and not before."""
        raise NotImplementedError

    def open_now(self) -> QWidget:
        """The dock proper at once; loads in this thread where that is not done. Raises what the imports raise."""
        if self.dock is None:
            heavy.load()
            self._fill()
        assert self.dock is not None
        return self.dock

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._placed:
            QTimer.singleShot(0, self.join_tabs)

    def join_tabs(self) -> None:
        """Share the place of our other docks as a tab, where napari stacks them into slivers."""
        frame, window = frame_of(self), self.window()
        if self._placed or frame is None or not isinstance(window, QMainWindow):
            return
        self._placed = True
        frame.setWindowTitle(frame.windowTitle().partition(" (")[0])  # a tab has little room
        others = [frame_of(other) for other in window.findChildren(OpeningDock) if other._placed and other is not self]
        area = window.dockWidgetArea(frame)
        beside = [other for other in others if other is not None and window.dockWidgetArea(other) == area]
        if beside:
            window.tabifyDockWidget(beside[0], frame)
            frame.raise_()
        else:
            QTimer.singleShot(0, self._widen)  # when it has its place

    def _widen(self) -> None:
        """Make room for all tabs."""
        frame, window = frame_of(self), self.window()
        if frame is not None and isinstance(window, QMainWindow) and frame.width() < DOCK_WIDTH:
            window.resizeDocks([frame], [DOCK_WIDTH], Qt.Orientation.Horizontal)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._asked:
            self._asked = True
            QTimer.singleShot(0, loader().start)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._asked = False  # shown again it asks again, also after an error

    def _on_told(self, event: Event) -> None:
        if self.dock is None and isinstance(event, Progress):
            self.message.say(f"Loading {event.text} …")
            self.bar.show()
            self.bar.setRange(0, event.n_steps)
            self.bar.setValue(event.step)

    def _on_ended(self, error: Exception | None) -> None:
        if self.dock is not None or not self.isVisible():
            return
        if error is None:
            try:
                self._fill()
            except Exception as failure:
                error = failure
        if error is not None:
            self._show_failure(error)

    def _fill(self) -> None:
        self.dock = self.make()
        while (item := self._column.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.dock)
        self.dock.show()
        self.ready.emit(self.dock)

    def _show_failure(self, error: Exception) -> None:
        log.error("The dock could not be loaded.", exc_info=error)
        text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        self.bar.hide()
        self.message.say(f"The dock could not be loaded: {text}. Close and open it again once that is mended.", "error")
        self.failed.emit(self.message.text())


def frame_of(widget: QWidget) -> QDockWidget | None:
    """The dock's frame in the window that holds a widget."""
    parent: Any = widget
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


class Scan(OpeningDock):
    """Opens the Scan dock."""

    def make(self) -> QWidget:
        from napari_unroll.gui.scan_dock import ScanDock

        return ScanDock(self._viewer)


class NormalOperator(OpeningDock):
    """Opens the Normal operator dock."""

    def make(self) -> QWidget:
        from napari_unroll.gui.normal_dock import NormalDock

        return NormalDock(self._viewer)


class Reconstruct(OpeningDock):
    """Opens the Reconstruct dock."""

    def make(self) -> QWidget:
        from napari_unroll.gui.reconstruct_dock import ReconstructDock

        return ReconstructDock(self._viewer)


class Train(OpeningDock):
    """Opens the Train dock."""

    def make(self) -> QWidget:
        from napari_unroll.gui.train_dock import TrainDock

        return TrainDock(self._viewer)


class Compare(OpeningDock):
    """Opens the Compare dock."""

    def make(self) -> QWidget:
        from napari_unroll.gui.compare_dock import CompareDock

        return CompareDock(self._viewer)


DOCKS: dict[str, type[OpeningDock]] = {
    "Scan": Scan, "Normal operator": NormalOperator, "Reconstruct": Reconstruct, "Train": Train, "Compare": Compare,
}  # fmt: skip
"""Title → dock, in the order of the work."""


class StartHere(QWidget):
    """Opens every dock as a tab, the first one in front, and closes itself.

    napari's menu can only add a widget; this one leaves as soon as it is shown.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self._open_all)

    def _open_all(self) -> None:
        viewer = getattr(self._viewer, "__wrapped__", self._viewer)
        for title, kind in DOCKS.items():
            name = f"{title} (Unroll)"  # as napari's menu names it, which then shows and hides the same dock
            if name not in viewer.window.dock_widgets:
                made = kind(viewer)
                viewer.window.add_dock_widget(made, name=name)
                made.join_tabs()  # now: each comes to the front, and the first one shall be last
        first = viewer.window.dock_widgets[f"{next(iter(DOCKS))} (Unroll)"]
        QTimer.singleShot(0, lambda: _front(first))
        viewer.window.remove_dock_widget(self)


def _front(widget: QWidget) -> None:
    frame = frame_of(widget)
    if frame is not None:
        frame.show()
        frame.raise_()
