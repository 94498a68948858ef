"""The layers of the Normal operator dock: maps of Ñ, and one comparison of N x with Ñ x, which the next one replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Layer

from napari_unroll.gui.images import DIVERGING, contrast, real
from napari_unroll.gui.layers import LayerWriter
from napari_unroll.gui.normal_jobs import Compared
from napari_unroll.normal.inspect import Comparison
from napari_unroll.scan.geometry import VolumeGrid

MAP, COMPARISON = "normal", "normal comparison"
"""Roles of the layers."""
SWAPPED = "N x, Ñ x in the patch"


class NormalLayers:
    """Shows maps alone, comparisons in tiles or one at a time. Every array lies over the extent of the volume's grid."""

    def __init__(self, writer: LayerWriter) -> None:
        self._writer = writer
        self._shown: list[Layer] = []

    def remove(self) -> None:
        """Of another scan."""
        self._shown = []
        self._writer.remove(MAP)
        self._writer.remove(COMPARISON)

    def show_map(self, grid: VolumeGrid, name: str, values: np.ndarray, colours: str) -> None:
        """One map alone."""
        layer = self._show(grid, name, values, MAP, colormap=colours)
        self._writer.side_by_side([layer], on=False)
        self._writer.show_only([layer])
        self._writer.viewpoint.go_to_centre(layer)

    def show_comparison(self, grid: VolumeGrid, found: Compared, tiles: bool) -> None:
        """N x, Ñ x and their difference, magnitudes of complex ones; hidden, the error against position."""
        pair, is_complex = found.pair, np.iscomplexobj(found.pair.exact)
        exact, approximated, difference = (
            np.abs(v) if is_complex else v for v in (pair.exact, pair.approximated, pair.difference)
        )
        limits, far = contrast(exact, 0.1, 99.9), reach(pair)
        self._writer.remove(COMPARISON)
        where = f"relative error in space ({found.form})"
        self._show(grid, where, found.by_position, COMPARISON, colormap="inferno", visible=False)
        self._shown = [
            self._show(
                grid, f"N x − Ñ x ({found.form})", difference, COMPARISON,
                contrast_limits=(0.0 if is_complex else -far, far), colormap="inferno" if is_complex else DIVERGING,
            ),
            self._show(grid, f"Ñ x ({found.form})", approximated, COMPARISON, contrast_limits=limits),
            self._show(grid, "N x", exact, COMPARISON, contrast_limits=limits),
        ]  # fmt: skip
        self.arrange(tiles)

    def arrange(self, tiles: bool) -> None:
        """A grid of N x, Ñ x and the difference, or N x alone."""
        shown = [layer for layer in self._shown if layer in self._writer.viewer.layers]
        if shown:
            self._writer.side_by_side(shown, on=tiles)
            if not tiles:
                self._writer.show_only(shown[-1:])

    def show_swapped(self, grid: VolumeGrid, volume: np.ndarray, pair: Comparison) -> None:
        """N x with Ñ x in a patch, in the contrast of N x."""
        limits = contrast(np.abs(pair.exact), 0.1, 99.9)
        values = real(volume)
        there = grid.resample(values.shape)
        self._writer.update_volume(SWAPPED, values, there, COMPARISON, contrast_limits=limits)

    def _show(self, grid: VolumeGrid, name: str, values: np.ndarray, role: str, **kwargs: Any) -> Layer:
        there = grid.resample(values.shape)
        (layer,) = self._writer.show_volume(name, values, there, role, **kwargs)
        return layer


def reach(pair: Comparison) -> float:
    """The range in which a difference is drawn."""
    return max(contrast(np.abs(pair.difference), 0.1, 99.5)[1], 1e-30)
