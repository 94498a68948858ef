"""The rectangle that a user draws over a plane, and the voxels inside it.

It lies in y and x alone, so that it is seen in every plane. Knows napari's shapes; nothing of what is done inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Shapes

from napari_unroll.gui.placement import AXIS_LABELS, IN_MM, common_unit
from napari_unroll.scan.geometry import VolumeGrid

EDGE_SHARE = 0.01
"""Width of the line per edge of the volume."""


class Rectangle:
    """One rectangle by name in a viewer's layers, there between ``show`` and ``remove``."""

    def __init__(self, viewer: Any, name: str) -> None:
        self._viewer, self._name = viewer, name
        self.layer: Shapes | None = None

    def show(self, grid: VolumeGrid, y: slice, x: slice, changed: Callable[..., Any]) -> None:
        """Put it around voxels (y, x), for the user to move and stretch; ``changed`` is called when he did."""
        self.remove()
        (_, oy, ox), (_, sy, sx) = grid.origin_mm, grid.spacing_mm
        low, high = ((oy + (a - 0.5) * sy, ox + (b - 0.5) * sx) for a, b in ((y.start, x.start), (y.stop, x.stop)))
        self.layer = Shapes(
            [np.array([low, high])], shape_type="rectangle", name=self._name, edge_color="#ff9f43",
            face_color="transparent", edge_width=EDGE_SHARE * max(grid.size_mm[1:]), opacity=1.0,
            units=common_unit(self._viewer.layers), axis_labels=AXIS_LABELS[1:], metadata={IN_MM: True},
        )  # fmt: skip
        self._viewer.add_layer(self.layer)
        self.layer.mode, self.layer.selected_data = "select", {0}
        self.layer.events.data.connect(changed)

    def remove(self) -> None:
        """Take it away."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def inside(self, grid: VolumeGrid) -> tuple[slice, slice] | None:
        """The voxels (y, x) of a grid within its last shape; None where there is none."""
        layer = self.layer
        if layer is None or layer not in self._viewer.layers or not len(layer.data):
            return None
        corners = np.asarray(layer.data[-1])[:, -2:]
        edges = np.round((corners - grid.origin_mm[1:]) / grid.spacing_mm[1:] + 0.5).astype(int)
        y, x = (
            slice(int(a := np.clip(low, 0, n - 1)), int(np.clip(high, a + 1, n)))
            for low, high, n in zip(edges.min(0), edges.max(0), grid.shape[1:], strict=True)
        )
        return y, x

    def bring_to_front(self) -> None:
        """Let it lie over everything, and be what the mouse moves."""
        layer, layers = self.layer, self._viewer.layers
        if layer is None or layer not in layers:
            return
        mode = layer.mode
        if layers[-1] is not layer:
            layers.move(layers.index(layer), len(layers))
        layer.visible = True
        layers.selection.active = layer
        layer.mode = mode
