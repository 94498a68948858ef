"""One result while it streams: its layer, its contrast, and the coarse layer of patches that have arrived.

Knows layers and events; puts nothing into a viewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer

from napari_unroll.events import Event, Finished, FixedPoint, IterationDone, PatchDone, QuickLook, whole
from napari_unroll.gui import images
from napari_unroll.gui.images import contrast, real
from napari_unroll.gui.placement import coarse_placement, placement
from napari_unroll.gui.stored_image import StoredImage
from napari_unroll.gui.streaming import StreamImage
from napari_unroll.scan.geometry import VolumeGrid

if TYPE_CHECKING:
    from napari_unroll.io.ome_zarr import StoredLevel

COARSE_BLOCK = 4
ATTENUATION = 0.3
"""Of the 3-D rendering: shows the surface where a plain maximum shows a white shape."""


def result_image(name: str, grid: VolumeGrid) -> StreamImage | StoredImage:
    """An empty, hidden layer into which a run streams; a large one lies on disk."""
    look: dict[str, Any] = {
        "name": name, "contrast_limits": (0, 1), "rendering": "attenuated_mip", "attenuation": ATTENUATION,
        "visible": False,
    }  # fmt: skip
    if math.prod(grid.shape) > images.LARGE:
        return StoredImage(grid, **look)
    return StreamImage(np.zeros(grid.shape, np.float32), **placement(grid), **look)


def arrived_image(grid: VolumeGrid) -> StreamImage:
    """The coarse, hidden layer of patches that have arrived, coloured by their distance from the data."""
    shape = tuple(-(-n // COARSE_BLOCK) for n in grid.shape)
    return StreamImage(
        np.full(shape, np.nan, np.float32), name="arrived patches", colormap="viridis", contrast_limits=(0, 1),
        opacity=0.35, visible=False, blending="translucent_no_depth", **coarse_placement(grid, COARSE_BLOCK),
    )  # fmt: skip


def patch_images(found: FixedPoint, grid: VolumeGrid) -> list[Image]:
    """What a search for a fixed point tells of every patch, as hidden layers over the volume."""
    made = []
    for name in found.maps:
        values = found.spread(name, COARSE_BLOCK)
        high = float(np.nanmax(values, initial=0.0)) or 1.0
        image = Image(
            values, name=f"{name} of patches", contrast_limits=(0, high), opacity=0.35, colormap="viridis",
            visible=False, blending="translucent_no_depth", interpolation2d="nearest",
            **coarse_placement(grid, COARSE_BLOCK),
        )  # fmt: skip
        made.append(image)
    return made


class ResultView:
    """One streaming result: its layer, the coarse layer of patches that have arrived, and the layers that it will cover.

    They stay in sight until there is something to see. ``sink`` is called in the worker's thread; the rest in the window's.
    """

    def __init__(
        self, layer: StreamImage | StoredImage, arrived: StreamImage | None = None, covered: Sequence[Layer] = ()
    ) -> None:
        self.layer, self.arrived, self.covered = layer, arrived, covered
        self.streams: list[StreamImage | StoredImage] = [layer] if arrived is None else [layer, arrived]
        self.n_patches = 0
        self._limits: tuple[float, float] | None = None
        self._far = 0.0

    def sink(self, event: Event) -> None:
        """Write what an event carries."""
        if isinstance(event, PatchDone):
            self.layer.post(event.box, real(event.values))
            self.n_patches += 1
            self._mark(event)
        elif isinstance(event, QuickLook):
            self.layer.post(event.box, real(event.values))
        elif isinstance(event, IterationDone) and event.values is not None:
            self.layer.post_volume(real(event.values))
        elif isinstance(event, Finished) and event.result is not None:
            self.layer.post(whole(event.result.shape), real(event.result))

    def follow(self, event: Event) -> None:
        """Come into sight with the first values, and let the contrast follow them until the user touches it."""
        if isinstance(event, PatchDone):
            self._follow_consistency(event)
        values = getattr(event, "values", None)
        if values is None:
            return
        self._follow_contrast(values, is_part=isinstance(event, PatchDone | QuickLook))
        self.show()

    def show(self) -> None:
        """Take the place of the layers that it covers."""
        if self.layer.visible:
            return
        self.layer.visible = True
        for layer in self.covered:
            layer.visible = False

    def end(self, values: np.ndarray) -> None:
        """Show the final values, which ``sink`` has written."""
        if self._limits is None or self._untouched():
            self._set(*contrast(real(values)))
        self.show()

    def kept(self, values: np.ndarray) -> np.ndarray | StoredLevel:
        """The final values, read from disk where the layer has all of them there, so that they need no memory."""
        stored = self.layer.complete if isinstance(self.layer, StoredImage) else None
        return values if stored is None or np.iscomplexobj(values) else stored

    def _follow_contrast(self, values: np.ndarray, is_part: bool) -> None:
        """A whole volume sets the limits, a part of one only widens them."""
        if self._limits is not None and not self._untouched():
            return
        low, high = contrast(real(values))
        if is_part and self._limits is not None:
            low, high = min(low, self._limits[0]), max(high, self._limits[1])
        self._set(low, high)

    def keep_contrast(self, limits: tuple[float, float]) -> None:
        """Use these limits (the reference's) and do not follow the values."""
        self._limits = (np.nan, np.nan)
        self.layer.contrast_limits_range = _wider(limits)
        self.layer.contrast_limits = limits

    def _set(self, low: float, high: float) -> None:
        if high <= low:
            return
        self.layer.contrast_limits_range = _wider((low, high))
        self.layer.contrast_limits = (low, high)
        self._limits = tuple(self.layer.contrast_limits)

    def _untouched(self) -> bool:
        return self._limits is not None and np.allclose(self.layer.contrast_limits, self._limits)

    def _follow_consistency(self, event: PatchDone) -> None:
        """Let the colours of the arrived patches reach from 0 to the largest distance from the data."""
        if self.arrived is not None and event.consistency is not None and event.consistency > self._far:
            self._far = event.consistency
            self.arrived.contrast_limits_range = self.arrived.contrast_limits = (0.0, self._far)

    def _mark(self, event: PatchDone) -> None:
        if self.arrived is None:
            return
        box = tuple(slice(b.start // COARSE_BLOCK, -(-b.stop // COARSE_BLOCK)) for b in event.box)
        shape = tuple(b.stop - b.start for b in box)
        value = 1.0 if event.consistency is None else event.consistency
        self.arrived.post(box, np.full(shape, value, np.float32))  # type: ignore[arg-type]


def _wider(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return min(low, 0.0) - 0.5 * (high - low), high + 1.0 * (high - low)
