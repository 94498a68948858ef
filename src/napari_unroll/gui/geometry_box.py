"""Part of the Scan dock: the geometry check and its pictures, other places to try, the set-up in 3-D.

Asks by signals and shows what comes; projects nothing.
"""

from __future__ import annotations

import html

from qtpy.QtCore import Signal

from napari_unroll.gui import parts
from napari_unroll.gui.slices import Slices
from napari_unroll.gui.sweep_box import SweepBox
from napari_unroll.gui.theme import Theme
from napari_unroll.pipeline.geometry_check import GeometryCheck


class GeometryBox(parts.Section):
    """``check`` is the last geometry check, ``sweep`` the strip of slices for other places."""

    check_wanted = Signal()
    axis_wanted = Signal()
    setup_wanted = Signal()

    def __init__(self, colours: Theme) -> None:
        super().__init__("Geometry")
        self.check: GeometryCheck | None = None
        self.check_button = parts.button(
            "Check geometry", self.check_wanted.emit,
            "Reconstruct quickly, project again, and compare with the measured views; looks for the rotation axis.",
            "check-geometry",
        )  # fmt: skip
        self.verdict = parts.Wrapped()
        self.correct = parts.button("Correct the axis", self.axis_wanted.emit, "Move the axis to where it fits best.")
        self.overlay = Slices(colours)
        self.view = parts.slider("Compared view", "View that is compared.")
        self.view.valueChanged.connect(self._show_view)
        self.numbers = parts.Wrapped()
        self.sweep = SweepBox(colours)
        self.setup_button = parts.button(
            "Show the set-up in 3-D", self.setup_wanted.emit,
            "Source path, detector, rays and volume as layers, at the view of the drawing above.", "setup",
        )  # fmt: skip
        shown = (self.verdict, self.correct, self.overlay, self.view, self.numbers)
        self.put(self.check_button, *shown, self.sweep, self.setup_button)

    def show_check(self, check: GeometryCheck | None) -> None:
        """The verdict, and the pictures of one view; or nothing."""
        self.check = check
        for widget in (self.verdict, self.view, self.numbers):
            widget.setVisible(check is not None)
        self.correct.setVisible(check is not None and check.axis_is_off)
        if check is None:
            self.overlay.show_images({})
            return
        self.verdict.setText(f"<b>{html.escape(check.verdict)}</b>")
        self.view.setRange(0, len(check.views) - 1)
        self._show_view(self.view.value())

    def _show_view(self, index: int) -> None:
        check = self.check
        if check is None:
            return
        measured, again = check.measured[index], check.reprojected[index]
        self.overlay.show_images(
            {"measured": measured, "reprojected": again, "difference": measured - again}, ("difference",)
        )
        self.numbers.setText(
            f"View {check.views[index]}. All views: correlation {check.correlation:.3f}, "
            f"residual {100 * check.residual:.1f} %, pixels binned {check.binning} × {check.binning}."
        )
