"""What a user draws over a plane: a rectangle and the voxels inside it, a line and its ends.

Both lie in y and x alone, so that they are seen in every plane. Knows napari's shapes; nothing of what is done with them.
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


class Drawn:
    """One shape of a ``kind`` by name in a viewer's layers, there between ``show`` and ``remove``."""

    kind = ""

    def __init__(self, viewer: Any, name: str) -> None:
        self._viewer, self._name = viewer, name
        self.layer: Shapes | None = None

    def _show(self, grid: VolumeGrid, ends: np.ndarray, changed: Callable[..., Any]) -> None:
        """Put it between two voxels (2, y x), for the user to move and stretch; ``changed`` is called when he did."""
        self.remove()
        self.layer = Shapes(
            [grid.origin_mm[1:] + ends * grid.spacing_mm[1:]], shape_type=self.kind, name=self._name,
            edge_color="#ff9f43", face_color="transparent", edge_width=EDGE_SHARE * max(grid.size_mm[1:]), opacity=1.0,
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

    def _corners(self, grid: VolumeGrid) -> np.ndarray | None:
        """Of its last shape (n, y x), in voxels of a grid; None where there is none."""
        layer = self.layer
        if layer is None or layer not in self._viewer.layers or not len(layer.data):
            return None
        found: np.ndarray = (np.asarray(layer.data[-1])[:, -2:] - grid.origin_mm[1:]) / grid.spacing_mm[1:]
        return found

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


class Rectangle(Drawn):
    """A part of every plane."""

    kind = "rectangle"

    def show(self, grid: VolumeGrid, y: slice, x: slice, changed: Callable[..., Any]) -> None:
        """Put it around voxels (y, x)."""
        self._show(grid, np.array([[y.start, x.start], [y.stop, x.stop]]) - 0.5, changed)

    def inside(self, grid: VolumeGrid) -> tuple[slice, slice] | None:
        """The voxels (y, x) of a grid within it; None where there is none."""
        corners = self._corners(grid)
        if corners is None:
            return None
        edges = np.round(corners + 0.5).astype(int)
        y, x = (
            slice(int(a := np.clip(low, 0, n - 1)), int(np.clip(high, a + 1, n)))
            for low, high, n in zip(edges.min(0), edges.max(0), grid.shape[1:], strict=True)
        )
        return y, x


class Line(Drawn):
    """Between two points of every plane."""

    kind = "line"

    def show(self, grid: VolumeGrid, changed: Callable[..., Any]) -> None:
        """Put it across the middle, along x."""
        _, n_y, n_x = grid.shape
        self._show(grid, np.array([[n_y // 2, 0.0], [n_y // 2, n_x - 1.0]]), changed)

    def ends(self, grid: VolumeGrid) -> np.ndarray | None:
        """Its ends (2, y x) in voxels of a grid; None where there is none."""
        return self._corners(grid)
