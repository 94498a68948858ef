"""Keeps Python's garbage collector from walking over everything that was imported, again and again.

napari collects garbage whenever a layer is removed; with deep-learning libraries loaded that stops the window for 0.6 s
each time, and so does Python's own collection now and then. What exists when the docks open is needed as long as the
window is, except for the layers that are there already.
"""

from __future__ import annotations

import gc
from typing import Any

from qtpy.QtCore import QEvent, QObject


class SparedHeap(QObject):
    """Spares what exists now from collection, until the window closes or a layer that exists now is removed."""

    def __init__(self, viewer: Any, window: QObject) -> None:
        super().__init__(window)
        self._layers = [id(layer) for layer in viewer.layers]
        window.installEventFilter(self)
        viewer.layers.events.removing.connect(self._on_removing, position="first")
        gc.freeze()

    def _on_removing(self, event: Any) -> None:
        if id(event.source[event.index]) in self._layers:
            gc.unfreeze()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Close:
            gc.unfreeze()
        return False
