"""The form of a reader's options; what corrects an X-ray scan has a fold of its own, with a preview.

Asks for a preview by a signal and shows what comes; knows no files and corrects nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unroll.gui import parts
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.slices import Slices
from napari_unroll.gui.theme import Theme
from napari_unroll.io.ct_options import CORRECTIONS
from napari_unroll.io.reader import ReaderOptions


class ReaderForm(QWidget):
    """One record of options, in one or two forms."""

    preview_requested = Signal()

    def __init__(self, record: type[ReaderOptions], colours: Theme) -> None:
        super().__init__()
        corrections = tuple(name for name in CORRECTIONS if name in record.model_fields)
        others = tuple(name for name in record.model_fields if name not in corrections)
        self._forms = [RecordForm(record, skip=corrections)]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._forms[0])
        self.preview = parts.button(
            "Preview corrections", self.preview_requested.emit,
            "Read the file and correct the sinogram of its middle row.", "preview-corrections",
        )  # fmt: skip
        self.pictures = Slices(colours)
        self.fold = parts.Fold("Corrections")
        layout.addWidget(self.fold)
        self.fold.setVisible(bool(corrections))
        if corrections:
            self._forms.append(RecordForm(record, skip=others))
            for widget in (self._forms[1], self.preview, self.pictures):
                self.fold.inner.addWidget(widget)
        self.fields = {name: field for form in self._forms for name, field in form.fields.items()}

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults. Raises ParameterError for what cannot be."""
        return {name: value for form in self._forms for name, value in form.value().changed()}

    def focus(self, name: str) -> None:
        """Open what hides a field, and go there."""
        if name in CORRECTIONS:
            self.fold.button.setChecked(True)
        self.fields[name].native.setFocus()

    def show_preview(self, before: np.ndarray, after: np.ndarray) -> None:
        """Show a sinogram before and after the corrections."""
        self.pictures.show_images({"before": before, "after": after, "difference": before - after}, ("difference",))
