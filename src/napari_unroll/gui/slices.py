"""Small pictures beside each other, for slices and views inside a dock.

Paints arrays with one grey scale for all, differences in blue and red; knows nothing of what they show.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QResizeEvent
from qtpy.QtWidgets import QWidget

_GAP, _CAPTION, _MAX_HEIGHT = 4, 18, 320


class Slices(QWidget):
    """Named pictures (y, x) in a row, as large as the width allows; hidden while there are none."""

    def __init__(self, colours: dict[str, QColor]) -> None:
        super().__init__()
        self._colours = colours
        self.images: dict[str, np.ndarray] = {}
        self._painted: dict[str, QImage] = {}
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

    def _panel_width(self) -> float:
        n = max(1, len(self.images))
        return (self.width() - _GAP * (n - 1)) / n

    def _fit_height(self) -> None:
        ratios = [a.shape[0] / max(1, a.shape[1]) for a in self.images.values()]
        self.setFixedHeight(_CAPTION + round(min(_MAX_HEIGHT, max(ratios, default=0) * self._panel_width())))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self._colours["text"])
        font = painter.font()
        font.setPointSizeF(8.5)
        painter.setFont(font)
        width = self._panel_width()
        for i, (name, image) in enumerate(self._painted.items()):
            panel = QRectF(i * (width + _GAP), 0, width, self.height())
            area = panel.adjusted(0, _CAPTION, 0, 0)
            scale = min(area.width() / image.width(), area.height() / image.height())
            target = QRectF(0, 0, scale * image.width(), scale * image.height())
            target.moveCenter(area.center())
            painter.drawImage(target, image)
            painter.drawText(panel, int(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter), name)
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
