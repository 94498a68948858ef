"""The two inputs that magicgui lacks: numbers of any magnitude, and fields that take a number, a word or nothing.

Knows magicgui and Qt; nothing of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from magicgui import register_type
from magicgui.backends._qtpy.widgets import QBaseRangedWidget, QBaseValueWidget
from magicgui.widgets.bases import RangedWidget, ValueWidget
from qtpy.QtCore import Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QLineEdit, QStyle, QWidget
from superqt import QSearchableComboBox

Place = Literal["", "file", "folder"]
"""What a text may name, for which a button then browses."""
NO_ARROW = "QComboBox::drop-down, QComboBox::down-arrow { width: 0px; height: 0px; border: none; image: none; }"


class Number(float):
    """Annotation of a number that may be very small or very large."""


class NumberOrWord:
    """Annotation of what takes a number, one of some words, any text, or nothing."""


class NumberBox(QDoubleSpinBox):
    """A spin box for numbers of any magnitude: 0.0001 and 3e-9 stay readable."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDecimals(12)

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


class EntryBox(QSearchableComboBox):
    """A line with words to choose from; what is typed is read as a number where ``numbers`` are allowed."""

    entered = Signal(object)

    def __init__(
        self, parent: QWidget | None = None, numbers: bool = True, optional: bool = False, place: Place = ""
    ) -> None:
        super().__init__(parent)
        self._numbers, self._optional = numbers, optional
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.line.setPlaceholderText("not set" if optional else "")
        self._place = place
        if place:
            icon = self.style().standardIcon(QStyle.StandardPixmap.SP_DirOpenIcon)
            browse = self.line.addAction(icon, QLineEdit.ActionPosition.TrailingPosition)
            browse.setText(f"Choose a {place}")
            browse.triggered.connect(lambda *_: self.browse())
        self.currentTextChanged.connect(lambda *_: self.entered.emit(self.value()))

    @property
    def line(self) -> QLineEdit:
        """Where one types."""
        return self.lineEdit()

    def offer(self, words: Sequence[str]) -> None:
        """Replace the words to choose from; what is entered stays."""
        kept = self.currentText()
        self.blockSignals(True)
        self.clear()
        self.addItems(list(words))
        self.setEditText(kept)
        self.blockSignals(False)
        self.setStyleSheet("" if words else NO_ARROW)

    def browse(self) -> None:
        """Ask for a file or a folder."""
        if self._place == "folder":
            path = QFileDialog.getExistingDirectory(self, "Choose a folder")
        else:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a file")
        if path:
            self.setEditText(path)

    def value(self) -> Any:
        """A number, a text, or None where nothing is entered and nothing may be."""
        text = self.currentText().strip()
        if not text and self._optional:
            return None
        return _as_number(text) if self._numbers else text

    def put(self, value: Any) -> None:
        """Enter a value."""
        self.setEditText("" if value is None else str(value))


class _QtNumber(QBaseRangedWidget):
    """magicgui's view of a NumberBox."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(NumberBox, **kwargs)

    def _pre_set_hook(self, value: Any) -> float:
        return float(value)


class _QtEntry(QBaseValueWidget):
    """magicgui's view of an EntryBox."""

    def __init__(self, parent: Any = None, **kwargs: Any) -> None:
        make: Any = lambda parent: EntryBox(parent, **kwargs)  # noqa: E731
        super().__init__(make, "value", "put", "entered", parent=parent)


class NumberEdit(RangedWidget[float]):
    """A number of any magnitude, within limits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget_type=_QtNumber, **kwargs)


class Entry(ValueWidget[Any]):
    """A number, a word, a text or nothing."""

    def __init__(
        self,
        words: Sequence[str] = (),
        numbers: bool = True,
        nullable: bool = False,
        place: Place = "",
        **kwargs: Any,
    ) -> None:
        box = {"numbers": numbers, "optional": nullable, "place": place}
        super().__init__(widget_type=_QtEntry, nullable=nullable, backend_kwargs=box, **kwargs)
        self.offer(words)

    def offer(self, words: Sequence[str]) -> None:
        """Replace the words to choose from; what is entered stays."""
        self.native.offer(words)


register_type(Number, widget_type=NumberEdit)
register_type(NumberOrWord, widget_type=Entry)


def _as_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
