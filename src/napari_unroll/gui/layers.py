"""The sole writer of layers: scans, results, maps and references go into the viewer here, and are taken away here.

Knows napari; nothing of docks or runs. How arrays become layers is in ``images`` and ``placement``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_unroll.events import FixedPoint
from napari_unroll.gui.images import DIVERGING, contrast, phase_image, scan_layers, volume_images
from napari_unroll.gui.opengl import guard_removal
from napari_unroll.gui.placement import ROLE, common_unit, grid_of, lies_in_mm
from napari_unroll.gui.result_view import ResultView, arrived_image, patch_images, result_image
from napari_unroll.gui.setup import Setup
from napari_unroll.gui.setup_layers import move_setup, setup_layers
from napari_unroll.gui.streaming import Streamer
from napari_unroll.gui.viewpoint import Viewpoint
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan

DIFFERENCE = "difference"
"""Role of the layers that show differences."""
TRIAL, SETUP = "trial", "setup"
"""Roles of a slice that is tried, and of the layers that show source, detector and volume."""
SCAN = "napari-unroll.scan"
STORED = "napari-unroll.stored"
"""Keys of a layer's metadata: the scan that it shows, the file of the result that it shows."""
RECORD = "provenance"
"""Where a layer of a result keeps the record of how it came about."""
SHARES_A_VIEW = 1000.0
"""How many times larger another layer may be and still be shown beside one."""
NAME_POINTS, PX_PER_POINT = (5.0, 10.0), 0.97
"""Sizes of names in tiles, and the width of a letter in pixels per point of its size."""
IN_A_LINE = 3
"""So many tiles stand in one row or column, more in several."""


class LayerWriter:
    """Everything that this plugin puts into a viewer goes through here."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.streamer = Streamer()
        self.viewpoint = Viewpoint(viewer)
        self._linked: list[Layer] = []
        guard_removal(viewer)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(lambda event: self._follow(event.value))
        viewer.dims.events.range.connect(self._fit_sliders, position="last")
        for layer in viewer.layers:
            self._follow(layer)
        viewer.canvas.events.size.connect(self._fit_tiles)

    def _on_removed(self, event: Any) -> None:
        self.streamer.forget(event.value)
        self._agree_on_units()

    def _follow(self, layer: Layer) -> None:
        layer.events.visible.connect(self._fit_sliders)
        layer.events.units.connect(self._agree_on_units)
        self._agree_on_units()

    def _agree_on_units(self, *_: Any) -> None:
        """What is in mm follows the layers of others."""
        unit = common_unit(self.viewer.layers)
        for layer in self.viewer.layers:
            if lies_in_mm(layer):
                layer.units = unit

    def _fit_sliders(self, *_: Any) -> None:
        """Sliders run over what is visible: our hidden layers do not count, those of others as napari counts them."""
        if self.viewer.layers:
            hidden = [layer for layer in self.ours() if not layer.visible]
            self.viewpoint.run_over([layer for layer in self.viewer.layers if layer not in hidden])

    def ours(self, role: str | None = None) -> list[Layer]:
        """Our layers, of one role where given, in the viewer's order."""
        return [
            layer for layer in self.viewer.layers
            if ROLE in layer.metadata and (role is None or layer.metadata[ROLE] == role)
        ]  # fmt: skip

    def remove(self, role: str) -> None:
        """Remove our layers of one role."""
        self._take_away(self.ours(role))

    def show_scan(self, scan: Scan) -> None:
        """Put a scan's measurements and its truth into the viewer and look at them; those of an earlier scan go."""
        for role in ("measurements", "truth", DIFFERENCE):
            self.remove(role)
        if scan.truth is not None:
            self.show_truth(scan)
        for layer in scan_layers(scan):
            self._add(layer, "measurements")
        self.turn_to(self.ours("measurements"))

    def turn_to(self, layers: list[Layer]) -> None:
        """Look at the middle of these layers; our others are hidden.

        Those so much larger or smaller that no slider can serve both are taken away.
        """
        sizes = [_size(layer) for layer in layers]
        others = [layer for layer in self.ours() if layer not in layers]
        apart = [o for o in others if not all(1 / SHARES_A_VIEW < _size(o) / size < SHARES_A_VIEW for size in sizes)]
        self._take_away(apart)
        self._leave_grid()
        self.show_only(
            [*layers, *(layer for layer in self.viewer.layers if layer not in self.ours() and layer.visible)]
        )
        self.viewer.fit_to_view(layers=layers)
        self.viewpoint.go_to_centre(layers[-1])

    def _leave_grid(self) -> None:
        """One picture again where several stood side by side."""
        if self.viewer.canvas.grid.enabled:
            self.side_by_side([], on=False)

    def show_truth(self, scan: Scan) -> None:
        """The known volume, hidden until it is wanted."""
        assert scan.truth is not None
        self.show_volume(f"{scan.name} · truth", scan.truth, scan.grid, role="truth", visible=False)

    def show_volume(
        self, name: str, values: np.ndarray, grid: VolumeGrid, role: str = "volume", **kwargs: Any
    ) -> list[Layer]:
        """A volume (z, y, x) as a layer, a complex one as magnitude and phase; an equally named one is replaced."""
        images = volume_images(name, values, grid, **kwargs)
        for image in images:
            self._remove_named(image.name)
        return [self._add(image, role) for image in images]

    def begin_result(
        self, name: str, grid: VolumeGrid, limits: tuple[float, float] | None = None, patchwise: bool = True
    ) -> ResultView:
        """Empty layers into which a run streams; they take the place of other layers of ours with the first values.

        ``patchwise`` adds the coarse layer of arrived patches; ``limits`` are a reference's contrast.
        """
        self._take_away([*self.ours("arrived"), *self.ours("patches")])
        self._leave_grid()
        covered = [layer for layer in self.ours() if layer.visible]
        layer = self._add(result_image(name, grid), "result")
        view = ResultView(layer, self._add(arrived_image(grid), "arrived") if patchwise else None, covered)
        if limits is not None:
            view.keep_contrast(limits)
        for layer in view.streams:
            self.streamer.add(layer)
        self.viewer.layers.selection.active = view.layer
        return view

    def finish_result(self, view: ResultView, values: np.ndarray | None) -> None:
        """End the streaming with the final values; where there are none, show again what was shown before the run."""
        if values is not None and view.layer in self.viewer.layers:
            view.end(values)
        for layer in view.streams:
            self.streamer.finish(layer)
        if values is None:
            for layer in view.covered:
                layer.visible = True
            self._take_away(view.streams)
        if values is not None and np.iscomplexobj(values):
            self._add_phase(view.layer, values)

    def show_patches(self, found: FixedPoint, grid: VolumeGrid) -> None:
        """What a search for a fixed point tells of every patch: hidden layers over the volume, until the next run."""
        active = self.viewer.layers.selection.active
        for image in patch_images(found, grid):
            self._add(image, "patches")
        self.viewer.layers.selection.active = active

    def show_differences(self, differences: dict[str, np.ndarray], grid: VolumeGrid) -> None:
        """Differences by the names of what was compared, side by side with one contrast; earlier ones go."""
        self.remove(DIFFERENCE)
        high = max(contrast(np.abs(d))[1] for d in differences.values())
        layers = [
            self.show_volume(
                f"{name} − reference", values, grid, DIFFERENCE, colormap=DIVERGING, contrast_limits=(-high, high)
            )[0]
            for name, values in differences.items()
        ]
        self.link_contrast(layers)
        self.side_by_side(layers)

    def show_trial(self, values: np.ndarray, grid: VolumeGrid) -> None:
        """One plane (1, y, x) of a trial, over what is shown there; the next one takes its place."""
        is_new = not self.ours(TRIAL)
        layer = self.update_volume("tried slice", values, grid, TRIAL)
        if is_new:
            self.turn_to([layer])

    def update_volume(self, name: str, values: np.ndarray, grid: VolumeGrid, role: str, **kwargs: Any) -> Layer:
        """A real volume (z, y, x) as a layer that keeps its place and its contrast when it is shown again."""
        there = [layer for layer in self.ours(role) if layer.name == name and layer.data.shape == values.shape]
        if not there:
            return self.show_volume(name, values, grid, role, **kwargs)[0]
        there[0].data = values
        there[0].visible = True
        return there[0]

    def show_setup(self, setup: Setup) -> None:
        """Source path, detector, rays and the volume's edges in 3-D; another view moves what is there."""
        there = self.ours(SETUP)
        if there:
            move_setup(there, setup)
            return
        made = [self._add(layer, SETUP) for layer in setup_layers(setup)]
        self.viewer.dims.ndisplay = 3
        self.viewer.fit_to_view(layers=made)

    def link_contrast(self, layers: Sequence[Layer]) -> None:
        """Let these layers share their contrast from now on, and no others."""
        if len(self._linked) > 1:
            self.viewer.layers.unlink_layers(self._linked, ("contrast_limits",))
        self._linked = list(layers)
        if len(layers) > 1:
            self.viewer.layers.link_layers(layers, ("contrast_limits",))

    def hide(self) -> None:
        """Hide our layers."""
        for layer in self.ours():
            layer.visible = False

    def show_only(self, layers: list[Layer]) -> None:
        """Show these layers, and then hide every other one of the viewer: the sliders stay where both are."""
        for layer in layers:
            layer.visible = True
        for layer in self.viewer.layers:
            layer.visible = layer in layers

    def side_by_side(self, layers: list[Layer], on: bool = True) -> None:
        """Show layers in a grid, one each, or end the grid."""
        if on:
            self.show_only(layers)
        for layer in self.ours():
            layer.name_overlay.visible = on and layer in layers
        self.viewer.canvas.grid.stride = -1
        self.viewer.canvas.grid.enabled = on
        self._fit_tiles()
        self.viewer.reset_view()

    def _fit_tiles(self, *_: Any) -> None:
        """Tiles in a row, in a column where the smallest letters are cut there; names so small that the longest is not cut."""
        named = [layer for layer in self.ours() if layer.name_overlay.visible]
        if not named:
            return
        longest = PX_PER_POINT * max(len(layer.name) for layer in named)
        row = self.viewer.canvas.size[1] / len(named)
        line = (1, -1) if row >= longest * NAME_POINTS[0] else (-1, 1)
        self._set_grid(line if len(named) <= IN_A_LINE else (-1, -1))
        width = float(self.viewer.canvas.viewbox_size(self.viewer.layers)[1])
        points = float(np.clip(width / longest, *NAME_POINTS))
        for layer in named:
            layer.name_overlay.font_size = points

    def _set_grid(self, shape: tuple[int, int]) -> None:
        """Rows and columns; the view is fitted to them where they are others than before."""
        grid = self.viewer.canvas.grid
        if grid.shape != shape:
            grid.shape = shape
            self.viewer.reset_view()

    def _add_phase(self, layer: Image, values: np.ndarray) -> None:
        active = self.viewer.layers.selection.active
        self._add(phase_image(layer.name, values, grid_of(layer)), "result")
        self.viewer.layers.selection.active = active

    def _remove_named(self, name: str) -> None:
        self._take_away([layer for layer in self.ours() if layer.name == name])

    def _take_away(self, layers: Sequence[Layer]) -> None:
        """All at once: each time napari collects garbage, which takes 0.6 s once deep-learning libraries are loaded."""
        there = [layer for layer in layers if layer in self.viewer.layers]
        if not there:
            return
        with self.viewer.layers.batched_update():
            for layer in there:
                self.viewer.layers.remove(layer)

    def _add(self, layer: Any, role: str) -> Any:
        layer.metadata[ROLE] = role
        layer.units = common_unit(self.viewer.layers)
        first = not self.ours()
        added = self.viewer.add_layer(layer)
        if first:
            self.viewer.reset_view()
            self.viewpoint.go_to_centre(added)
        return added


def _size(layer: Layer) -> float:
    """The largest extent of a layer, in its world's units."""
    low, high = np.asarray(layer.extent.world)
    return float(np.max(high - low)) or 1.0
