"""Part of the Compare dock: values of volumes along a line, through the cursor's voxel or drawn in the view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox
from superqt.utils import QSignalDebouncer

from napari_unroll.errors import ScanError
from napari_unroll.gui import parts
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.drawn import Line
from napari_unroll.gui.placement import AXIS_LABELS, grid_of, values_of
from napari_unroll.gui.session import Session
from napari_unroll.pipeline.metrics import line_profile
from napari_unroll.scan.geometry import VolumeGrid

PAUSE_MS = 50
"""Between two profiles while a line is dragged."""


class ProfileBox(parts.Section):
    """``wanted`` asks to be shown volumes: by the button, and where the drawn line or the plane that is shown has moved."""

    wanted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__("Line profile")
        self._session = session
        self.line = Line(session.viewer, "profile line")
        self.along = parts.explain(
            QComboBox(), "Line", "Along an axis through the cursor's voxel, or where you draw it."
        )
        self.along.addItems([*(f"along {a}" for a in AXIS_LABELS), "drawn in the view"])
        self.along.setCurrentIndex(2)
        self.along.currentIndexChanged.connect(lambda *_: self.line.remove())
        self.button = parts.button(
            "Draw profile", self.wanted.emit,
            "Values along a line through the cursor's voxel (the middle if outside), or along one in the view to be moved.",
        )  # fmt: skip
        self.curve = Curve(session.viewer, "mm", "value", height=190)
        self.where = parts.Note()
        self._later = QSignalDebouncer(parent=self)
        self._later.setTimeout(PAUSE_MS)
        self._later.triggered.connect(self.wanted)
        session.viewer.dims.events.current_step.connect(self._on_step)
        self.put(parts.row(self.along, self.button, stretch=(1, 1)), self.where, self.curve)

    @property
    def is_drawn(self) -> bool:
        """Whether the line is one in the view."""
        return self.along.currentIndex() == len(AXIS_LABELS)

    def forget(self) -> None:
        """Another scan."""
        self.line.remove()
        self.curve.clear_curves()
        self.where.setText("")

    def show_volumes(self, reference: Image, volumes: Sequence[Image]) -> None:
        """Draw the values of the reference and of volumes of its shape."""
        try:
            grid = grid_of(reference)
        except ScanError as error:
            self.where.setText(str(error))
            return
        found = (
            self._drawn(grid, [reference, *volumes]) if self.is_drawn else self._through(grid, [reference, *volumes])
        )
        self.curve.clear_curves()
        for layer, (position, values) in zip((reference, *volumes), found, strict=True):
            self.curve.set(short(layer.name), position, values)

    def _through(self, grid: VolumeGrid, layers: Sequence[Image]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Along an axis: where in mm, and the values there."""
        axis, index = self.along.currentIndex(), self._session.layers.viewpoint.index_at_cursor(grid)
        at: list[Any] = list(index)
        at[axis] = slice(None)
        here = ", ".join(f"{a} {i}" for j, (a, i) in enumerate(zip(AXIS_LABELS, index, strict=True)) if j != axis)
        self.where.setText(f"through {here}")
        position = grid.origin_mm[axis] + grid.spacing_mm[axis] * np.arange(grid.shape[axis])
        return [(position, np.asarray(values_of(layer)[tuple(at)], dtype=float)) for layer in layers]

    def _drawn(self, grid: VolumeGrid, layers: Sequence[Image]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Along the line in the plane that is shown: mm from its beginning, and the values there."""
        ends = self.line.ends(grid)
        if ends is None:
            self.line.show(grid, lambda *_: self._later.throttle())
            ends = self.line.ends(grid)
            assert ends is not None
        self.line.bring_to_front()
        z = self._session.layers.viewpoint.plane(grid)
        (y0, x0), (y1, x1) = np.round(ends).astype(int)
        self.where.setText(f"from y {y0}, x {x0} to y {y1}, x {x1} in plane z {z}; move or stretch the line")
        planes = [np.asarray(values_of(layer)[z], dtype=float) for layer in layers]
        return [line_profile(plane, ends, grid.spacing_mm[1:]) for plane in planes]

    def _on_step(self, *_: Any) -> None:
        """The line is in the plane that is shown."""
        if isalive(self) and self.line.layer is not None:
            self._later.throttle()


def short(name: str) -> str:
    """The part of a layer's name after the scan's."""
    return name.rsplit(" · ", 1)[-1]
