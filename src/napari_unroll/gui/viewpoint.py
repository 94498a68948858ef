"""Where a viewer's sliders stand, in voxels of a grid; how they are moved, and over which layers they run.

Knows the viewer's dims and cursor; nothing of layers' contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_unroll.gui.placement import in_mm
from napari_unroll.scan.geometry import VolumeGrid

Index = tuple[int, int, int]


class Viewpoint:
    """The place (z, y, x) that a viewer shows, which stays where its sliders get another range that has it.

    Of napari's own (0.9.2), one whose step is beyond the new range goes to its last, wherever that is. Its numbers are in the
    smallest unit of length that any layer has.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._note()
        viewer.dims.events.point.connect(self._note)
        viewer.dims.events.range.connect(self._stay, position="last")

    def _note(self, *_: Any) -> None:
        self._place, self._unit = self._viewer.dims.point, self._in_mm()

    def _stay(self, *_: Any) -> None:
        """Where napari's sliders have moved it, that is not told yet."""
        if len(self._place) == self._viewer.dims.ndim:
            changed = np.ones(len(self._place))
            if len(unit := self._in_mm()) == len(self._unit):
                changed[len(changed) - len(unit) :] = self._unit / unit
            self._viewer.dims.point = tuple((self._place * changed).tolist())

    def _in_mm(self) -> np.ndarray:
        """How many mm the viewer's unit is along its last axes, at most three; 1 where there is no length."""
        units, n = self._viewer.layers.extent.units, min(3, self._viewer.dims.ndim)
        return np.ones(n) if units is None else np.array([in_mm(unit) for unit in units[-n:]])

    def plane(self, grid: VolumeGrid) -> int:
        """The plane z of a grid in which the viewer's slice is, the middle one where it is outside."""
        point, n = self._viewer.dims.point, grid.shape[0]
        if len(point) < 3:
            return n // 2
        z = round((point[-3] * self._in_mm()[0] - grid.origin_mm[0]) / grid.spacing_mm[0])
        return z if 0 <= z < n else n // 2

    def index_at_cursor(self, grid: VolumeGrid) -> Index:
        """The voxel of a grid under the mouse, its middle where the mouse is outside."""
        shape = np.array(grid.shape)
        world = np.asarray(self._viewer.cursor.position, dtype=float)[-3:]
        index = -np.ones(3)
        if len(world) == len(self._in_mm()) == 3:
            index = np.round((world * self._in_mm() - grid.origin_mm) / grid.spacing_mm)
        inside = bool(((index >= 0) & (index < shape)).all())
        z, y, x = (int(i) for i in (index if inside else shape // 2))
        return z, y, x

    def go_to(self, grid: VolumeGrid, index: Index) -> None:
        """Show the slices through a voxel of a grid."""
        self._move(np.array(grid.origin_mm) + np.array(index) * grid.spacing_mm)

    def go_to_centre(self, layer: Layer) -> None:
        """Show the slices through the middle of a layer of at most three axes."""
        unit = np.array([in_mm(unit) for unit in layer.units])
        self._move(np.asarray(layer.extent.world).mean(axis=0) * unit)

    def run_over(self, layers: Sequence[Layer]) -> None:
        """Let the sliders reach from end to end of these layers; of all where these are none or have other units."""
        everything = self._viewer.layers.extent
        extent = self._viewer.layers.get_extent(layers) if layers else everything
        extent = extent if extent.units == everything.units else everything
        reach = [tuple(map(float, axis)) for axis in zip(*extent.world, extent.step, strict=True)]
        dims = self._viewer.dims
        kept = list(dims.range)[: dims.ndim - len(reach)]
        if [tuple(axis) for axis in dims.range] != [*kept, *reach]:
            dims.range = (*kept, *reach)

    def _move(self, mm: np.ndarray) -> None:
        n = self._viewer.dims.ndim
        for axis, value in enumerate(mm / self._in_mm()[-len(mm) :], start=n - len(mm)):
            self._viewer.dims.set_point(axis, float(value))
