"""One picture of the canvas, some plots and a text, for export.

Paints what is shown; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QWidget

from napari_unroll.errors import ParameterError
from napari_unroll.gui.theme import Theme
from napari_unroll.io.atomic import replacing

GAP = 8


def compose(viewer: Any, plots: Sequence[QWidget], text: str) -> QImage:
    """The viewer's canvas, below it the plots in a row, below them the text."""
    canvas = np.ascontiguousarray(viewer.screenshot(canvas_only=True, flash=False))
    height, width = canvas.shape[:2]
    pictures = [plot.grab().toImage() for plot in plots]
    row = max(p.height() for p in pictures) + 2 * GAP
    words = QRect(GAP, height + row, width - 2 * GAP, 10_000)
    words.setHeight(_text_height(words, text))
    colours = Theme(viewer)
    out = QImage(width, height + row + words.height() + GAP, QImage.Format.Format_RGB32)
    out.fill(colours["background"])
    painter = QPainter(out)
    painter.drawImage(0, 0, QImage(canvas.data, width, height, 4 * width, QImage.Format.Format_RGBA8888))
    at = GAP
    for picture in pictures:
        painter.drawImage(at, height + GAP, picture)
        at += picture.width() + GAP
    painter.setPen(colours["text"])
    painter.drawText(words, Qt.TextFlag.TextWordWrap, text)
    painter.end()
    return out


def save(picture: QImage, path: Path) -> None:
    """Write ``picture`` in the format of the name's suffix. Raises ParameterError where that cannot be."""
    try:
        with replacing(path, overwrite=True) as temporary:
            if not picture.save(str(temporary)):
                raise OSError("unknown kind of picture")
    except OSError as error:
        raise ParameterError(f"{path} cannot be written ({error}); choose a name that ends in .png.") from error


def _text_height(inside: QRect, text: str) -> int:
    """Pixels that the wrapped text takes."""
    trial = QImage(1, 1, QImage.Format.Format_RGB32)
    painter = QPainter(trial)
    taken = painter.boundingRect(inside, Qt.TextFlag.TextWordWrap, text)
    painter.end()
    return int(taken.height())
