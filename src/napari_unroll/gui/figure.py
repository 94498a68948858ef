"""One picture of the canvas, some plots and a text, for export.

Paints what is shown; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QWidget

from napari_unroll.gui.parts import theme

GAP = 8


def compose(viewer: Any, plots: Sequence[QWidget], text: str) -> QImage:
    """The viewer's canvas above, the plots and the text in a row below it."""
    canvas = np.ascontiguousarray(viewer.screenshot(canvas_only=True, flash=False))
    height, width = canvas.shape[:2]
    pictures = [plot.grab().toImage() for plot in plots]
    below = max(p.height() for p in pictures) + 2 * GAP
    colours = theme(viewer)
    out = QImage(width, height + below, QImage.Format.Format_RGB32)
    out.fill(colours["background"])
    painter = QPainter(out)
    painter.drawImage(0, 0, QImage(canvas.data, width, height, 4 * width, QImage.Format.Format_RGBA8888))
    at = GAP
    for picture in pictures:
        painter.drawImage(at, height + GAP, picture)
        at += picture.width() + GAP
    painter.setPen(colours["text"])
    painter.drawText(at, height + GAP, max(80, width - at - GAP), below, Qt.TextFlag.TextWordWrap, text)
    painter.end()
    return out
