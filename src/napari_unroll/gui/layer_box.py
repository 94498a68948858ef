"""Part of the Scan dock: a layer of the viewer, what it holds, and the form of what it does not say. Makes no scan."""

from __future__ import annotations

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_unroll.gui import parts
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.from_layer import LayerGeometry, LayerImage
from napari_unroll.gui.memory import Memory
from napari_unroll.gui.session import Session

PROJECTIONS, IMAGE = "Projections", "Image"
"""What a layer may hold."""


class LayerBox(parts.Fold):
    """``wanted`` asks for a scan of the ``chosen`` layer, with the form ``projections`` or ``image``."""

    wanted = Signal()

    def __init__(self, session: Session, remembered: Memory) -> None:
        super().__init__("From a layer")
        self._session = session
        self.layer, self.kind = QComboBox(), QComboBox()
        tip = "A layer with axes (view, row, column), or an image with axes (y, x) or (z, y, x)."
        parts.explain(self.layer, "Layer", tip)
        self.layer.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        parts.explain(self.kind, "What the layer holds", "Projections of an X-ray scan, or an image.")
        self.kind.addItems([PROJECTIONS, IMAGE])
        self.projections, self.image = RecordForm(LayerGeometry), RecordForm(LayerImage)
        remembered.form("projections", self.projections)
        remembered.form("image", self.image)
        self.use_button = parts.button("Use layer", self.wanted.emit, "Make a scan of the chosen layer.")
        for widget in (self.layer, self.kind, self.projections, self.image, self.use_button):
            self.inner.addWidget(widget)
        self.kind.currentTextChanged.connect(self._show_form)
        session.layers_changed.connect(self._list_layers)
        self._show_form(PROJECTIONS)
        self._list_layers()

    @property
    def chosen(self) -> Image:
        """The layer; raises KeyError where it is gone."""
        return self._session.viewer.layers[self.layer.currentText()]

    @property
    def is_image(self) -> bool:
        """Whether it holds an image, not projections."""
        return bool(self.kind.currentText() == IMAGE)

    def _show_form(self, kind: str) -> None:
        self.projections.setVisible(kind == PROJECTIONS)
        self.image.setVisible(kind == IMAGE)

    def _list_layers(self) -> None:
        chosen = self.layer.currentText()
        layers = self._session.viewer.layers
        names = [layer.name for layer in layers if isinstance(layer, Image) and layer.ndim in (2, 3)]
        self.layer.clear()
        self.layer.addItems(names)
        if chosen in names:
            self.layer.setCurrentText(chosen)
        self.use_button.setEnabled(bool(names))
