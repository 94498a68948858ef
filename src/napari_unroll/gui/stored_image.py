"""An image layer of a large result while it comes to be: on disk, in levels, of which only what is looked at is read.

Takes the same calls as ``StreamImage``. Its folder lies in the cache and goes with the layer and with what reads its finest
level, at the latest when the process ends. Knows napari's image layer and, once there is one, the growing store; nothing of runs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_warning

from napari_unroll.events import Box, whole
from napari_unroll.gui.images import in_levels
from napari_unroll.gui.placement import placement
from napari_unroll.scan.geometry import VolumeGrid

if TYPE_CHECKING:
    from napari_unroll.io.ome_zarr import StoredLevel

CHUNK = (64, 64, 64)
SLOW_TICK_S = 1.0
REST_PER_WRITE = 9.0
"""Whole volumes between iterations are written for at most a tenth of the time."""


class StoredImage(Image):
    """An Image over the levels of a volume (z, y, x) in a store that grows box by box.

    ``post`` and ``post_volume`` may be called from one other thread; everything else belongs to the window's thread.
    """

    def __init__(self, grid: VolumeGrid, **kwargs: Any) -> None:
        from napari_unroll.io.ome_zarr import GrowingVolume, open_lazily
        from napari_unroll.normal.cache import cache_folder

        parent = cache_folder() / "results"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        self.path = folder / "result.ome.zarr"
        self._growing = GrowingVolume(self.path, "result", grid, is_complex=False, chunk=CHUNK)
        self._box = whole(grid.shape)
        self._written, self._next_write, self._shown = False, 0.0, 0.0
        self._failure = ""
        (levels,) = open_lazily(self.path).levels.values()
        weakref.finalize(levels[0], shutil.rmtree, folder, ignore_errors=True)
        self._finest = levels[0]
        super().__init__(**in_levels(levels), **placement(grid), **kwargs)

    @property
    def _type_string(self) -> str:
        return "image"

    @property
    def complete(self) -> StoredLevel | None:
        """The finest level, None where something could not be written to it."""
        return None if self._failure else self._finest

    def begin(self) -> None:
        """Expect boxes from now on."""

    def post(self, box: Box, values: np.ndarray) -> None:
        """Write ``values`` into ``box``. From the run's thread; a full disk ends no run."""
        if self._failure:
            return
        try:
            self._growing.put(box, values)
        except OSError as error:
            self._failure = str(error)
        self._written = True

    def post_volume(self, values: np.ndarray) -> None:
        """Write a whole volume between iterations, unless that would take too much of the time."""
        begun = time.monotonic()
        if begun < self._next_write:
            return
        self.post(self._box, values)
        ended = time.monotonic()
        self._next_write = ended + REST_PER_WRITE * (ended - begun)

    def drain(self) -> None:
        """Show what has arrived, once a second at most."""
        now = time.monotonic()
        if self._written and self.visible and now - self._shown >= SLOW_TICK_S:
            self._written, self._shown = False, now
            self.refresh(thumbnail=False, extent=False, highlight=False)

    def finish(self) -> None:
        """No more boxes: show everything with one ordinary refresh."""
        self.refresh()
        if self._failure:
            show_warning(
                f"The layer shows a part of the result only, for the cache folder could not be written to "
                f"({self._failure}). The result itself is complete and can be saved."
            )
