"""From a typed record (pydantic) to a form, and back.

One widget per field that ``pipeline.params`` describes; description, unit and limits become the tooltip. The record
stays the single source: the form adds no field, no limit and no default. Knows Qt; nothing of what a record is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_unroll.pipeline import params
from napari_unroll.pipeline.params import FieldSpec

UNITS = {"mm": "mm", "px": "pixels", "rad": "rad", "s": "s", "bytes": "bytes"}
_BIG = 2**31 - 1


class _NoStrayWheel(QObject):
    """Scrolling the dock must not change the value under the mouse."""

    def eventFilter(self, widget: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(widget, QWidget) and not widget.hasFocus():
            event.ignore()
            return True
        return False


class NumberBox(QDoubleSpinBox):
    """A spin box for numbers of any magnitude: 0.0001 and 3e-9 stay readable."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDecimals(12)
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)

    def textFromValue(self, value: float) -> str:
        return f"{value:.6g}"

    def valueFromText(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return float(self.value())

    def validate(self, text: str, pos: int) -> Any:
        try:
            value = float(text)
        except ValueError:
            return QValidator.State.Intermediate, text, pos
        inside = self.minimum() <= value <= self.maximum()
        return (QValidator.State.Acceptable if inside else QValidator.State.Intermediate), text, pos


class Field:
    """One field of a record: a widget with ``get``, ``set`` and a signal."""

    def __init__(self, widget: QWidget, get: Callable[[], Any], put: Callable[[Any], None], changed: Any) -> None:
        self.widget, self.get, self.set, self.changed = widget, get, put, changed


def label(spec: FieldSpec) -> str:
    """What stands before the widget: the name in words with its unit in brackets."""
    words = spec.name.split("_")
    unit = spec.unit
    if len(words) > 1 and words[-1] in UNITS:
        unit = unit or UNITS[words.pop()]
    if len(words) > 1 and words[0] == "n":
        words = words[1:]
    return " ".join(words).capitalize() + (f" ({unit})" if unit else "")


def tooltip(spec: FieldSpec) -> str:
    """Description, limits and default, a line each."""
    parts = [spec.help or label(spec)]
    low = (
        f"{'more than' if 'gt' in spec.exclusive else 'at least'} {spec.minimum:g}" if spec.minimum is not None else ""
    )
    high = (
        f"{'less than' if 'lt' in spec.exclusive else 'at most'} {spec.maximum:g}" if spec.maximum is not None else ""
    )
    if low or high:
        parts.append(f"Allowed: {', '.join(x for x in (low, high) if x)}{f' {spec.unit}' if spec.unit else ''}.")
    if spec.default is not None:
        parts.append(f"Default: {spec.default}.")
    return "<p>" + "<br>".join(parts) + "</p>"


class RecordForm(QWidget):
    """A form for one record type.

    ``skip`` leaves fields out, ``choices`` suggests words for fields of free text (devices, weights). ``value()`` returns a
    validated record and raises ParameterError with one sentence; what the user typed stays.
    """

    changed = Signal()

    def __init__(
        self,
        record: type[BaseModel],
        skip: tuple[str, ...] = (),
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.record = record
        self.fields: dict[str, Field] = {}
        self._kept: dict[str, Any] = {}
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setVerticalSpacing(3)
        self._layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self._wheel = _NoStrayWheel(self)
        for spec in params.fields(record):
            if spec.name not in skip:
                self._add(spec, (choices or {}).get(spec.name))

    def _add(self, spec: FieldSpec, words: Sequence[str] | None) -> None:
        field = make_field(spec) if words is None else _suggested(spec, words)
        field.widget.setObjectName(spec.name)
        field.widget.setToolTip(tooltip(spec))
        field.widget.setAccessibleName(label(spec))
        for widget in (field.widget, *field.widget.findChildren(QWidget)):
            if isinstance(widget, (QAbstractSpinBox, QComboBox)):
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                widget.installEventFilter(self._wheel)
        field.set(spec.default)
        field.changed.connect(self._on_changed)
        self._layout.addRow(label(spec), field.widget)
        self._layout.labelForField(field.widget).setToolTip(tooltip(spec))
        self.fields[spec.name] = field

    def _on_changed(self, *_: Any) -> None:
        self.changed.emit()

    def raw(self) -> dict[str, Any]:
        """What the widgets hold, unchecked, over the fields that have no widget."""
        return {**self._kept, **{name: field.get() for name, field in self.fields.items()}}

    def value(self) -> Any:
        """The record; raises ParameterError saying which field is wrong and why."""
        info = self.record.model_fields
        given = {
            k: v
            for k, v in self.raw().items()
            if info[k].is_required() or v != info[k].get_default(call_default_factory=True)
        }
        return params.build(self.record, given, "Please check")

    def set_value(self, record: BaseModel) -> None:
        """Show a record; fields without a widget are kept as they are."""
        self._kept = {n: getattr(record, n) for n in type(record).model_fields if n not in self.fields}
        for name, field in self.fields.items():
            field.set(getattr(record, name))


def make_field(spec: FieldSpec) -> Field:
    """The widget for a field, chosen by its type."""
    if spec.choices:
        return _choice(spec)
    if spec.type is bool:
        return _check()
    if spec.optional or spec.type is str:
        return _text(spec)
    return _integer(spec) if spec.type is int else _number(spec)


def _choice(spec: FieldSpec) -> Field:
    """A list of words; where numbers are allowed too it can be typed into."""
    box = QComboBox()
    box.addItems(spec.choices)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setEditable(spec.free)

    def get() -> Any:
        text = box.currentText().strip()
        return text if spec.type is str else _as_number(text)

    return Field(box, get, lambda v: box.setCurrentText("" if v is None else str(v)), box.currentTextChanged)


def _suggested(spec: FieldSpec, words: Sequence[str]) -> Field:
    """Free text with a list of words that are known to be right."""
    field = _choice(replace(spec, choices=tuple(words)))
    box = field.widget
    box.setEditable(True)
    box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    widget = _with_browse(box, box.setEditText) if " file" in spec.help else box
    return Field(widget, lambda: box.currentText().strip(), lambda v: box.setEditText(str(v)), field.changed)


def _check() -> Field:
    box = QCheckBox()
    return Field(box, box.isChecked, lambda v: box.setChecked(bool(v)), box.toggled)


def _integer(spec: FieldSpec) -> Field:
    box = QSpinBox()
    low = -_BIG if spec.minimum is None else int(spec.minimum) + ("gt" in spec.exclusive)
    high = _BIG if spec.maximum is None else int(spec.maximum) - ("lt" in spec.exclusive)
    box.setRange(low, high)
    box.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
    return Field(box, box.value, lambda v: box.setValue(int(v or 0)), box.valueChanged)


def _number(spec: FieldSpec) -> Field:
    box = NumberBox()
    box.setRange(
        -1e12 if spec.minimum is None else spec.minimum,
        1e12 if spec.maximum is None else spec.maximum,
    )
    return Field(box, box.value, lambda v: box.setValue(float(v or 0)), box.valueChanged)


def _text(spec: FieldSpec) -> Field:
    edit = QLineEdit()
    edit.setPlaceholderText("not set" if spec.optional else "")

    def get() -> Any:
        text = edit.text().strip()
        if not text and spec.optional:
            return None
        return text if spec.type is str else _as_number(text)

    widget: QWidget = _with_browse(edit, edit.setText) if spec.type is str and " file" in spec.help else edit
    return Field(widget, get, lambda v: edit.setText("" if v is None else str(v)), edit.textChanged)


def _as_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _with_browse(edit: QWidget, put: Callable[[str], None]) -> QWidget:
    """A button beside a field of text that asks for a file."""
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(edit, 1)
    button = QToolButton()
    button.setText("…")
    button.setToolTip("Choose a file.")

    def browse() -> None:
        path, _ = QFileDialog.getOpenFileName(holder, "Choose a file")
        if path:
            put(path)

    button.clicked.connect(browse)
    row.addWidget(button)
    return holder
