"""Part of the Normal operator dock: the parts of a fitted Ñ as maps, and their profile over frequency. Shows no layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Signal

from napari_unroll.gui import parts
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.images import log_map
from napari_unroll.gui.normal_jobs import Compared, Fitted
from napari_unroll.normal import inspect


class MapsBox(parts.Section):
    """``wanted`` asks to show a map: its name, its values (z, y, x) and its colours. ``edge`` says how large patches are."""

    wanted = Signal(str, object, str)

    def __init__(self, viewer: Any, edge: Callable[[], int]) -> None:
        super().__init__("Parts of Ñ")
        self._fitted: Fitted | None = None
        self._edge = edge
        self.weight = parts.button("Spatial weight d", self.show_weight, "How strongly each voxel is measured.")
        self.response = parts.button(
            "Frequency response |λ|", self.show_response, "Magnitude of the convolution's spectrum, centred, log10."
        )
        self.kernel = parts.button(
            "Kernel h", self.show_kernel, "The convolution kernel cut for the patch size, log10 of |h|."
        )
        self.profile = Curve(viewer, "cycles per voxel", "relative", log=True)
        self.put(parts.row(self.weight, self.response, stretch=(1, 1)), self.kernel, self.profile)
        self.show_fit(None)

    def show_fit(self, fitted: Fitted | None) -> None:
        """The parts of this fit, or of none."""
        self._fitted = fitted
        for button in (self.weight, self.response, self.kernel):
            button.setEnabled(fitted is not None)
        if fitted is None:
            self.profile.clear_curves()
            return
        found = inspect.radial_profile(fitted.factors)
        self.profile.set("|λ| / max", found.frequency, found.values / max(float(found.values.max()), 1e-30))

    def show_error(self, found: Compared) -> None:
        """The error against frequency of a comparison."""
        self.profile.set("relative error", found.by_frequency.frequency, found.by_frequency.values)

    def show_weight(self) -> None:
        """The weight in space."""
        if self._fitted is not None:
            self._want("d ({})", self._fitted.factors.d_map, "viridis")

    def show_response(self) -> None:
        """|λ| of every frequency."""
        if self._fitted is not None:
            self._want("|λ| ({}), log10", log_map(self._fitted.factors.frequency_map, 1e-4), "inferno")

    def show_kernel(self) -> None:
        """The kernel for the chosen patch size."""
        if self._fitted is not None:
            factors, edge = self._fitted.factors, self._edge()
            z, y, x = (min(edge, n) for n in factors.shape)
            self._want("kernel h ({}), log10", log_map(factors.crop((z, y, x)).kernel_map, 1e-5), "inferno")

    def _want(self, name: str, values: np.ndarray, colours: str) -> None:
        assert self._fitted is not None
        self.wanted.emit(name.format(self._fitted.factors.form), values, colours)
