"""Small pictures beside each other, for slices and views inside a dock.

Paints arrays with one grey scale for all, differences in blue and red; knows nothing of what they show.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QWidget

from napari_unroll.gui.theme import Theme

_GAP, _CAPTION, _MAX_HEIGHT = 4, 18, 320


class Slices(QWidget):
    """Named pictures (y, x) in a row, as large as the width allows; hidden while there are none."""

    picked = Signal(str)

    def __init__(self, colours: Theme, per_row: int = 0) -> None:
        super().__init__()
        self._colours, self._per_row = colours, per_row
        self.images: dict[str, np.ndarray] = {}
        self._painted: dict[str, QImage] = {}
        self._chosen = ""
        self.hide()

    def show_images(self, images: Mapping[str, np.ndarray], differences: tuple[str, ...] = ()) -> None:
        """Show pictures by caption, magnitudes of complex ones; ``differences`` are centred on zero, in the same units."""
        self.images = {name: np.abs(a) if np.iscomplexobj(a) else np.asarray(a) for name, a in images.items()}
        plain = [a for name, a in self.images.items() if name not in differences]
        low, high = _limits(plain)
        self._painted = {
            name: _coloured(a, 0.25 * (high - low)) if name in differences else _grey(a, low, high)
            for name, a in self.images.items()
        }
        self.setVisible(bool(images))
        self._fit_height()
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_height()

    def choose(self, name: str) -> None:
        """Draw a frame around one picture."""
        self._chosen = name
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        at = event.position()
        found = [name for name, panel in self._panels().items() if panel.contains(at)]
        if found:
            self.picked.emit(found[0])

    def _n_columns(self) -> int:
        n = max(1, len(self.images))
        return min(n, self._per_row) if self._per_row else n

    def _panel_size(self) -> tuple[float, float]:
        """Width, and height with the caption."""
        n = self._n_columns()
        width = (self.width() - _GAP * (n - 1)) / n
        ratios = [a.shape[0] / max(1, a.shape[1]) for a in self.images.values()]
        return width, _CAPTION + round(min(_MAX_HEIGHT, max(ratios, default=0) * width))

    def _panels(self) -> dict[str, QRectF]:
        """Where each picture and its caption stand."""
        (width, height), n = self._panel_size(), self._n_columns()
        return {
            name: QRectF(i % n * (width + _GAP), i // n * (height + _GAP), width, height)
            for i, name in enumerate(self.images)
        }

    def _fit_height(self) -> None:
        n_rows = -(-len(self.images) // self._n_columns())
        self.setFixedHeight(round(max(1, n_rows) * (self._panel_size()[1] + _GAP) - _GAP))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        font = painter.font()
        font.setPointSizeF(8.5)
        painter.setFont(font)
        for name, panel in self._panels().items():
            image = self._painted[name]
            area = panel.adjusted(0, _CAPTION, 0, 0)
            scale = min(area.width() / image.width(), area.height() / image.height())
            target = QRectF(0, 0, scale * image.width(), scale * image.height())
            target.moveCenter(area.center())
            painter.drawImage(target, image)
            painter.setPen(self._colours["text"])
            painter.drawText(panel, int(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter), name)
            if name == self._chosen:
                painter.setPen(QPen(self._colours["highlight"], 3))
                painter.drawRect(target.adjusted(1, 1, -1, -1))
        painter.end()


def _limits(images: list[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([a.ravel() for a in images]) if images else np.zeros(1)
    low, high = np.percentile(values, (0.5, 99.8))
    return float(low), float(max(high, low + 1e-12))


def _grey(image: np.ndarray, low: float, high: float) -> QImage:
    levels = np.ascontiguousarray((np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8))
    rows, columns = levels.shape
    return QImage(levels.data, columns, rows, columns, QImage.Format.Format_Grayscale8).copy()


def _coloured(image: np.ndarray, reach: float) -> QImage:
    """Blue below zero, white at zero, red above; full colour at ``reach``."""
    share = np.clip(image / reach, -1, 1)
    fade = 1 - np.abs(share)
    rgb = np.stack([np.where(share > 0, 1, fade), fade, np.where(share < 0, 1, fade)], axis=-1)
    pixels = np.ascontiguousarray((255 * rgb).astype(np.uint8))
    rows, columns = image.shape
    return QImage(pixels.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()
