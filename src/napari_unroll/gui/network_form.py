"""The form of a network's architecture: one form for it, one for each of its parts that the method has."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unroll.gui.forms import RecordForm

PARTS = ("data_step", "prior")
DECIDED = ("iteration", "kind", "complex_valued")
"""What method and modality decide."""


class NetworkForm(QWidget):
    """Shows a record with records in it; ``value()`` is what the user made of it, as plain values."""

    def __init__(self, config: BaseModel) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self.forms: dict[str, RecordForm] = {}
        self.set_value(config)

    def set_value(self, config: BaseModel) -> None:
        """Show another architecture."""
        for form in self.forms.values():
            self._column.removeWidget(form)
            form.deleteLater()
        parts = {name: part for name in PARTS if (part := getattr(config, name)) is not None}
        self.forms = {}
        for name, record in {"": config, **parts}.items():
            form = self.forms[name] = RecordForm(type(record), skip=DECIDED)
            form.set_value(record)
            self._column.addWidget(form)

    def value(self) -> dict[str, Any]:
        """The architecture as plain values. Raises ParameterError where a field is wrong."""
        values: dict[str, Any] = self.forms[""].raw()
        return values | {name: form.value().model_dump() for name, form in self.forms.items() if name}
