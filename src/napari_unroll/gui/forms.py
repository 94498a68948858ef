"""From a typed record (pydantic) to a form of magicgui's widgets, and back.

One widget for every field that ``pipeline.params`` describes, chosen by magicgui from the field's type; description, unit
and limits become the tooltip; a record inside the record becomes a fold. The record stays the single source: the form
adds no field, no limit and no default. Knows nothing of what a record is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from magicgui.widgets import create_widget
from magicgui.widgets.bases import BaseValueWidget, ButtonWidget
from pydantic import BaseModel
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_unroll.gui.fold import Fold
from napari_unroll.gui.inputs import Number, NumberOrWord
from napari_unroll.pipeline import params
from napari_unroll.pipeline.params import FieldSpec

UNITS = {"mm": "mm", "px": "pixels", "rad": "rad", "s": "s", "bytes": "bytes"}
Words = Sequence[str] | Mapping[str, str]
"""Suggestions for a text, or titles of the only values."""
_BIG_INT, _BIG = 2**31 - 1, 1e12


class _NoStrayWheel(QObject):
    """Scrolling the dock must not change the value under the mouse."""

    def eventFilter(self, widget: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(widget, QWidget) and not widget.hasFocus():
            event.ignore()
            return True
        return False


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
    """A form for one record type, or for a record with records in it.

    ``fields`` are magicgui's widgets (``value``, ``changed``, ``native``) by name, ``parts`` the forms of inner records.
    ``skip`` leaves fields out ("inner.name" for those of an inner record), ``choices`` suggests words for fields of free
    text (devices, weights), or as a mapping of titles to values has all that may be chosen. ``value()`` returns a
    validated record and raises ParameterError with one sentence; what the user typed stays.
    """

    changed = Signal()

    def __init__(
        self,
        record: type[BaseModel],
        skip: tuple[str, ...] = (),
        choices: Mapping[str, Words] | None = None,
    ) -> None:
        super().__init__()
        self.record, self._skip = record, skip
        self._kept: dict[str, Any] = {}
        specs = [spec for spec in params.fields(record) if spec.name not in skip]
        self.fields: dict[str, Any] = {spec.name: make_field(spec, (choices or {}).get(spec.name)) for spec in specs}
        self.parts: dict[str, RecordForm] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._rows = QFormLayout()
        self._rows.setVerticalSpacing(3)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._column.addLayout(self._rows)
        self._wheel = _NoStrayWheel(self)
        for spec in specs:
            self._add(spec)
        for name, info in record.model_fields.items():
            self._show_part(name, info.get_default(call_default_factory=True))

    def _add(self, spec: FieldSpec) -> None:
        field = self.fields[spec.name]
        widget: QWidget = field.native
        widget.setObjectName(spec.name)
        widget.setAccessibleName(field.label)
        for inner in (widget, *widget.findChildren(QWidget)):
            if isinstance(inner, (QAbstractSpinBox, QComboBox)):
                inner.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                inner.installEventFilter(self._wheel)
        field.changed.connect(self._on_changed)
        if isinstance(field, ButtonWidget):
            self._rows.addRow(widget)
            return
        self._rows.addRow(field.label, widget)
        self._rows.labelForField(widget).setToolTip(field.tooltip)

    def _show_part(self, name: str, value: Any) -> None:
        """A fold for an inner record; another kind of record replaces it, none takes it away."""
        old = self.parts.get(name)
        if old is not None and type(value) is not old.record:
            fold = self.parts.pop(name).parentWidget().parentWidget()
            self._column.removeWidget(fold)
            fold.deleteLater()
        if not isinstance(value, BaseModel) or name in self._skip:
            return
        if name not in self.parts:
            inner = tuple(s.removeprefix(f"{name}.") for s in self._skip if s.startswith(f"{name}."))
            self.parts[name] = form = RecordForm(type(value), skip=inner)
            form.changed.connect(self._on_changed)
            self._column.addWidget(Fold(name.replace("_", " ").capitalize(), form))
        self.parts[name].set_value(value)

    def _on_changed(self, *_: Any) -> None:
        self.changed.emit()

    @property
    def labels(self) -> list[QWidget]:
        """What stands before the fields, to align several forms by."""
        found = (self._rows.labelForField(field.native) for field in self.fields.values())
        return [label for label in found if label is not None]

    def show_field(self, name: str, on: bool) -> None:
        """Show or hide a field with its label."""
        self._rows.setRowVisible(self.fields[name].native, on)

    def raw(self) -> dict[str, Any]:
        """What the widgets hold, unchecked, over the fields that have no widget."""
        held = {name: field.value for name, field in self.fields.items()}
        return {**self._kept, **held, **{name: form.raw() for name, form in self.parts.items()}}

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
        values = {name: getattr(record, name) for name in type(record).model_fields}
        self._kept = {name: value for name, value in values.items() if name not in self.fields}
        for name, field in self.fields.items():
            field.value = values[name]
        for name, value in values.items():
            self._show_part(name, value)


def make_field(spec: FieldSpec, words: Words | None = None) -> BaseValueWidget[Any]:
    """magicgui's widget for a field, which holds its default; ``words`` are what is offered."""
    annotation, options = _of_type(spec, words)
    made: Any = create_widget(
        spec.default,
        annotation,
        name=spec.name,
        label=label(spec),
        options={**options, "tooltip": tooltip(spec)},
    )
    if isinstance(made, ButtonWidget):
        made.text = label(spec)
    return made


def _of_type(spec: FieldSpec, words: Words | None) -> tuple[Any, dict[str, Any]]:
    """What magicgui chooses a widget by: an annotation and options."""
    if isinstance(words, Mapping):
        return Any, {"widget_type": "ComboBox", "choices": list(words.items())}
    if spec.choices and not spec.free and not spec.optional:
        return Literal[spec.choices], {}
    if spec.choices or spec.optional or words is not None or spec.type is str:
        offered = words if words is not None else spec.choices
        kind = {"words": offered, "numbers": spec.type is not str, "nullable": spec.optional, "place": spec.place}
        return NumberOrWord, kind
    if spec.type is bool:
        return bool, {}
    return (int if spec.type is int else Number), _limits(spec)


def _limits(spec: FieldSpec) -> dict[str, float]:
    """Limits of a spin box; those that a number must not reach are left to the record's own check."""
    if spec.type is int:
        low = -_BIG_INT if spec.minimum is None else int(spec.minimum) + ("gt" in spec.exclusive)
        high = _BIG_INT if spec.maximum is None else int(spec.maximum) - ("lt" in spec.exclusive)
        return {"min": low, "max": high}
    low_, high_ = spec.minimum, spec.maximum
    return {"min": -_BIG if low_ is None else low_, "max": _BIG if high_ is None else high_}
