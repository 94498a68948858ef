"""A 3-D image layer that shows volumes while they are still being computed.

Any thread posts finished boxes; the window's thread drains them at 8 Hz: in 3-D each box becomes a partial texture
upload, in 2-D the slice is redrawn only if a box touches it. Unusual views (transposed axes, a driver without float
textures, a napari whose private parts moved) fall back to a slim refresh at 1 Hz. On software OpenGL, where casting
rays costs more than uploading, the 3-D view shows a decimated preview while patches arrive and the full volume after.

Knows napari's image layer and its vispy visual; nothing of scans, methods or runs.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any, Protocol

import numpy as np
from napari.layers import Image
from napari.utils.events import Event
from qtpy.QtCore import QObject, QTimer

from napari_unroll.events import Box
from napari_unroll.gui.opengl import is_software

TICK_MS = 125
SLOW_TICK_S = 1.0
PREVIEW_TICK_S = 0.4
REST_PER_FRAME = 4.0
BUDGET_BYTES = 8 << 20


class StreamImage(Image):
    """An Image over one float32 array (z, y, x) that grows box by box.

    ``post`` may be called from any thread; everything else belongs to the window's thread. While ``streaming`` is
    True new boxes are expected; ``finish`` ends it with one ordinary refresh.
    """

    def __init__(self, data: np.ndarray, **kwargs: Any) -> None:
        self.streaming = False
        self.uploads = {"partial": 0, "slice": 0, "refresh": 0, "skipped": 0}
        self._queue: deque[Box] = deque()
        self._last_frame = -1e9
        self._last_refresh = -1e9
        self._stale = False
        self._frame_s = 0.0
        super().__init__(np.ascontiguousarray(data, dtype=np.float32), **kwargs)
        self.events.add(patches=Event, streaming=Event)

    @property
    def _type_string(self) -> str:
        return "image"

    def begin(self) -> None:
        """Expect boxes from now on."""
        self.streaming = True
        self.events.streaming()

    def post(self, box: Box, values: np.ndarray) -> None:
        """Write ``values`` into ``box`` and queue it for the view. From any thread."""
        self.data[box] = values
        self._queue.append(box)

    def post_volume(self, values: np.ndarray, n_slabs: int = 8) -> None:
        """Write a whole volume and queue it as slabs along z, so that no single upload is large. From any thread."""
        nz = self.data.shape[0]
        step = max(1, -(-nz // n_slabs))
        for start in range(0, nz, step):
            slab = slice(start, min(start + step, nz))
            self.post((slab, slice(0, self.data.shape[1]), slice(0, self.data.shape[2])), values[slab])

    def drain(self) -> bool:
        """Show what has arrived, within a budget; True if boxes are left for the next tick."""
        boxes = self._take()
        if boxes and self.visible:
            self._show(boxes)
        elif self._stale and self.visible:
            self._slow_refresh()
        return bool(self._queue)

    def finish(self) -> None:
        """No more boxes: show everything with one ordinary refresh."""
        self._queue.clear()
        self.streaming = False
        self.events.streaming()
        self.refresh()

    def _take(self) -> list[Box]:
        if self._slice_input.ndisplay == 3 and not self._due():
            return []
        boxes: list[Box] = []
        n_bytes = 0
        while self._queue and n_bytes < BUDGET_BYTES:
            box = self._queue.popleft()
            if box not in boxes:
                boxes.append(box)
                n_bytes += 4 * int(np.prod([b.stop - b.start for b in box]))
        return boxes

    def _due(self) -> bool:
        """Rate limit of 3-D redraws: at least four times as long a rest as the last picture took to draw."""
        now = time.monotonic()
        shortest = PREVIEW_TICK_S if is_software() else 0.0
        if now - self._last_frame < max(shortest, REST_PER_FRAME * self._frame_s):
            return False
        self._last_frame = now
        return True

    def _time_frame(self) -> None:
        """Note how long the window needs for the picture just asked for."""
        start = time.monotonic()

        def painted() -> None:
            self._frame_s = time.monotonic() - start

        QTimer.singleShot(0, painted)

    def _show(self, boxes: list[Box]) -> None:
        if self._slice_input.ndisplay == 2:
            self._show_slice(boxes)
            return
        event = self.events.patches(boxes=boxes, shown=[])
        if event.shown:
            self.uploads["partial"] += len(boxes)
            self._time_frame()
        else:
            self._slow_refresh()

    def _show_slice(self, boxes: list[Box]) -> None:
        if any(self._touches_view(box) for box in boxes):
            self.uploads["slice"] += 1
            self.refresh(thumbnail=False, extent=False, highlight=False)
        else:
            self.uploads["skipped"] += 1

    def _touches_view(self, box: Box) -> bool:
        """Whether the shown slice cuts ``box``; True where napari's slicing cannot be asked."""
        with contextlib.suppress(Exception):
            point = self._data_slice.point
            hidden = self._slice_input.not_displayed
            return all(box[a].start <= round(float(point[a])) < box[a].stop for a in hidden)
        return True

    def _slow_refresh(self) -> None:
        now = time.monotonic()
        self._stale = now - self._last_refresh < SLOW_TICK_S
        if not self._stale:
            self._last_refresh = now
            self.uploads["refresh"] += 1
            self.refresh(thumbnail=False, extent=False, highlight=False)


class Streamed(Protocol):
    """A layer that grows: its calls in the window's thread."""

    def begin(self) -> None:
        """Expect boxes from now on."""

    def drain(self) -> object:
        """Show what has arrived."""

    def finish(self) -> None:
        """No more boxes: show everything."""


class Streamer(QObject):
    """The 8 Hz timer that drains layers in the window's thread; sleeps while nothing streams."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Streamed] = []
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)

    def add(self, layer: Streamed) -> None:
        """Drain ``layer`` from now on."""
        layer.begin()
        if layer not in self._layers:
            self._layers.append(layer)
        self._timer.start()

    def finish(self, layer: Streamed) -> None:
        """Stop draining ``layer`` and show it whole."""
        if layer in self._layers:
            self._layers.remove(layer)
            layer.finish()
        if not self._layers:
            self._timer.stop()

    def forget(self, layer: Any) -> None:
        """A layer was removed from the viewer."""
        if layer in self._layers:
            self._layers.remove(layer)

    @property
    def active(self) -> bool:
        """Whether the timer runs."""
        return bool(self._timer.isActive())

    def tick(self) -> None:
        """Drain every layer once."""
        for layer in self._layers:
            layer.drain()


def register_visual() -> bool:
    """Teach napari the visual with partial uploads; False where its private parts moved (then layers refresh)."""
    try:
        from napari_unroll.gui.stream_visual import register
    except ImportError:
        return False
    register(StreamImage)
    return True


REGISTERED = register_visual()
