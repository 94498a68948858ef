"""Part of the Reconstruct dock: which part of the volume a preview takes, and whether it follows every change.

Knows the viewer's slice and a rectangle over it; runs nothing.
"""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QSpinBox, QVBoxLayout, QWidget
from superqt.utils import QSignalDebouncer

from napari_unroll.gui import parts
from napari_unroll.gui.drawn import Rectangle
from napari_unroll.gui.session import Session
from napari_unroll.scan.scan import Scan

Region = tuple[int, int, int, int, int, int]
LIVE_S = 10.0
"""Longest preview that is made again at every change."""
LIVE_PAUSE_MS = 600
"""After the last change."""


class PreviewBox(QWidget):
    """A slab about the viewer's slice, a rectangle in it, and *Live*.

    ``changed`` tells of another region; ``refresh_wanted`` that a live preview is due, a pause after the last ``note_change``.
    """

    changed = Signal()
    refresh_wanted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.rectangle = Rectangle(session.viewer, "preview rectangle")
        self.region = QCheckBox("Preview a slab only")
        self.region.setToolTip("Reconstruct only a few planes around the slice that the viewer shows.")
        self.planes = parts.explain(QSpinBox(), "Planes of the preview", "Thickness of the slab.")
        self.planes.setRange(1, 512)
        self.planes.setValue(16)
        self.planes.setSuffix(" planes")
        self.planes.setMinimumWidth(132)
        self.inside = QCheckBox("Only inside a rectangle")
        self.inside.setToolTip("Draw where: a rectangle over the slice that can be moved and stretched.")
        self.live = QCheckBox("Live: preview after every change")
        self.live.setToolTip(f"For methods whose preview takes less than {LIVE_S:.0f} s.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (parts.row(self.region, self.planes, stretch=(1, 0)), self.inside, self.live):
            column.addWidget(widget)
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(LIVE_PAUSE_MS)
        self._pause.triggered.connect(self._ask)
        self.region.toggled.connect(self._tell)
        self.planes.valueChanged.connect(self._tell)
        self.inside.toggled.connect(self._on_inside)
        self.live.toggled.connect(self._on_live)

    def roi(self) -> Region | None:
        """The voxels (z0, z1, y0, y1, x0, x1) of the preview; None where the whole volume is wanted."""
        scan = self._session.scan
        if scan is None or not self.region.isChecked():
            return None
        nz, ny, nx = scan.grid.shape
        n = min(self.planes.value(), nz)
        middle = self._session.layers.viewpoint.plane(scan.grid)
        start = int(np.clip(middle - n // 2, 0, nz - n))
        y, x = self.rectangle.inside(scan.grid) or (slice(0, ny), slice(0, nx))
        return (start, start + n, y.start, y.stop, x.start, x.stop)

    def show_roi(self, roi: Region | None) -> None:
        """The region of a stored result, in its place: the viewer goes to the middle of its planes."""
        scan = self._session.scan
        self.region.setChecked(roi is not None)
        self.inside.setChecked(False)
        if roi is None or scan is None:
            return
        z0, z1, y0, y1, x0, x1 = roi
        self.planes.setValue(z1 - z0)
        self._session.layers.viewpoint.go_to(scan.grid, ((z0 + z1) // 2, (y0 + y1) // 2, (x0 + x1) // 2))
        if (y0, y1, x0, x1) != (0, scan.grid.shape[1], 0, scan.grid.shape[2]):
            self.inside.setChecked(True)
            self.rectangle.show(scan.grid, slice(y0, y1), slice(x0, x1), self._tell)

    def show_scan(self, scan: Scan | None) -> None:
        """Another scan: no rectangle, and as many planes as it has."""
        self.inside.setChecked(False)
        self.planes.setMaximum(512 if scan is None else scan.grid.shape[0])

    def note_change(self) -> None:
        """Something has changed that a live preview would show."""
        if self.live.isChecked():
            self._pause.throttle()

    def _ask(self) -> None:
        if self.live.isChecked():
            self.refresh_wanted.emit()

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    def _on_inside(self, on: bool) -> None:
        """Show a rectangle to stretch; a rectangle means a preview."""
        scan = self._session.scan
        if on and scan is not None:
            self.region.setChecked(True)
            y, x = (slice(n // 4, max(n // 4 + 1, n - n // 4)) for n in scan.grid.shape[1:])
            self.rectangle.show(scan.grid, y, x, self._tell)
        else:
            self.rectangle.remove()
        self.changed.emit()

    def _on_live(self, on: bool) -> None:
        """A live preview is of a region."""
        if on:
            self.region.setChecked(True)
            self.changed.emit()
