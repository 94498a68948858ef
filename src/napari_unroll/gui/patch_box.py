"""Part of the Normal operator dock: the edge of a patch, and what Ñ costs and errs on one. Applies no operator."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSpinBox

from napari_unroll.gui import parts
from napari_unroll.gui.normal_jobs import PatchCheck


class PatchBox(parts.Section):
    """``edge`` of a patch in voxels; ``wanted`` asks to evaluate Ñ on one."""

    wanted = Signal()

    def __init__(self) -> None:
        super().__init__("On a patch")
        self.edge = QSpinBox()
        self.edge.setRange(4, 512)
        self.edge.setValue(48)
        self.edge.setSuffix(" voxels")
        parts.explain(self.edge, "Edge of a patch", "Edge of a patch: the kernel is cut to twice this many lags.")
        self.button = parts.button("Evaluate", self.wanted.emit, "Time and error of Ñ on one patch.", "patch")
        self.numbers = parts.Note()
        self.put(parts.row(self.edge, self.button, stretch=(1, 1)), self.numbers)

    def show_check(self, found: PatchCheck) -> None:
        """Times and the distance from the whole operator, in words."""
        times = found.times
        size = " × ".join(map(str, times.patch))
        lines = [
            f"Patch {size}, kernel {found.kernel_bytes / 2**20:.2g} MiB.",
            f"Ñ on the patch {parts.seconds(times.patch_approximated)}, exact N on the patch "
            f"{parts.seconds(times.patch_exact)}, exact N on the whole volume {parts.seconds(times.whole_exact)}.",
            f"Ñ on the patch and Ñ on the whole volume differ by {parts.number(found.error_to_whole)}.",
        ]
        self.numbers.setText("<br>".join(lines))
