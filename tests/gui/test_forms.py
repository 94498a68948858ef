"""Every field of every record has a widget, shows its default, and gives back what is typed."""

import pytest
from magicgui.widgets.bases import BaseValueWidget
from pydantic import BaseModel, Field
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFileDialog, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_unroll.errors import ParameterError
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.forms import RecordForm, label, tooltip
from napari_unroll.gui.from_layer import LayerGeometry
from napari_unroll.gui.inputs import NumberBox
from napari_unroll.gui.parts import Fold, Message, Searchable
from napari_unroll.gui.scan_dock import VolumeChoice
from napari_unroll.gui.train_form import Effort
from napari_unroll.io.registry import FORMATS
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.registry import METHODS
from napari_unroll.normal.fit import FitOptions
from napari_unroll.pipeline.params import FieldSpec, fields
from napari_unroll.pipeline.plan import Choices
from napari_unroll.record import FileName, FolderName, Record

RECORDS: list[type[BaseModel]] = [
    Choices, Effort, FitOptions, LayerGeometry, VolumeChoice,
    *dict.fromkeys(m.params for m in METHODS.values()), *dict.fromkeys(r.options for r in FORMATS.values()),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_a_fresh_form_holds_the_defaults(qtbot, record):
    form = RecordForm(record)
    qtbot.addWidget(form)
    assert form.value() == record()


def test_titles_stand_for_the_only_values(qtbot):
    form = RecordForm(Effort, choices={"device": {"Any device": "auto", "Processor": "cpu"}})
    qtbot.addWidget(form)
    box = form.fields["device"].native
    assert [box.itemText(k) for k in range(box.count())] == ["Any device", "Processor"]
    form.fields["device"].value = "cpu"
    assert form.value().device == "cpu"


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_every_field_is_tied_to_the_record(qtbot, record):
    form = RecordForm(record)
    qtbot.addWidget(form)
    assert set(form.fields) == {s.name for s in fields(record)}
    for spec in fields(record):
        wanted = another(spec)
        form.fields[spec.name].value = wanted
        assert form.raw()[spec.name] == wanted, spec.name
        assert spec.help.split(".")[0] in form.findChild(QWidget, spec.name).toolTip()


def another(spec: FieldSpec):
    """A legal value that is not the default."""
    if spec.choices:
        return next((c for c in spec.choices if c != spec.default), spec.choices[0])
    if spec.type is bool:
        return not spec.default
    if spec.type is str:
        return "some text"
    low = spec.minimum if spec.minimum is not None else 0
    high = spec.maximum if spec.maximum is not None else low + 8
    value = low + (high - low) / 4
    return int(value) + 1 if spec.type is int else value


def test_numbers_of_any_magnitude_stay_readable(qtbot):
    box = NumberBox()
    qtbot.addWidget(box)
    box.setRange(0, 1e12)
    for value, text in ((1e-9, "1e-09"), (0.0125, "0.0125"), (1e10, "1e+10")):
        box.setValue(value)
        assert box.text() == text
        assert box.value() == pytest.approx(value)


def test_a_word_or_a_number(qtbot):
    form = RecordForm(Choices)
    qtbot.addWidget(form)
    box = form.findChild(QComboBox, "patch_size")
    assert box.isEditable()
    box.setEditText("48")
    assert form.value().patch_size == 48


def test_wrong_input_is_one_sentence_and_stays_typed(qtbot):
    form = RecordForm(Choices)
    qtbot.addWidget(form)
    form.findChild(QComboBox, "patch_size").setEditText("many")
    with pytest.raises(ParameterError, match="patch_size"):
        form.value()
    assert form.findChild(QComboBox, "patch_size").currentText() == "many"


def test_limits_hold_in_the_widget_and_stand_in_the_tooltip(qtbot):
    form = RecordForm(VolumeChoice)
    qtbot.addWidget(form)
    box = form.findChild(QAbstractSpinBox, "z")
    box.setValue(10**6)
    assert box.value() == 8192
    assert "at least 1" in box.toolTip()


def test_empty_means_not_set(qtbot):
    form = RecordForm(LayerGeometry)
    qtbot.addWidget(form)
    edit = form.findChild(QComboBox, "axis_px")
    edit.setEditText("31.5")
    assert form.value().axis_px == 31.5
    edit.clearEditText()
    assert form.value().axis_px is None


def test_labels_carry_units():
    specs = {s.name: s for s in fields(LayerGeometry)}
    assert label(specs["pixel_mm"]) == "Pixel (mm)"
    assert label(specs["angle_range"]) == "Angle range (°)"
    assert "Default: 180" in tooltip(specs["angle_range"])


def test_words_are_suggested_for_free_text(qtbot):
    form = RecordForm(Choices, skip=("params",), choices={"device": ["auto", "cpu"], "weights": ["auto", "shipped"]})
    qtbot.addWidget(form)
    box = form.findChild(QComboBox, "device")
    assert [box.itemText(i) for i in range(box.count())] == ["auto", "cpu"]
    form.fields["weights"].value = "my.safetensors"
    assert form.value().weights == "my.safetensors"
    assert form.findChild(QWidget, "weights").findChild(QToolButton) is not None


def test_a_stray_wheel_changes_nothing(qtbot):
    from qtpy.QtCore import QPoint, QPointF
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    form = RecordForm(VolumeChoice)
    qtbot.addWidget(form)
    box = form.findChild(QAbstractSpinBox, "z")
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 120), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(box, wheel)
    assert box.value() == 64


def test_inner_records_are_folds_and_another_kind_replaces_them(qtbot):
    form = RecordForm(NetworkConfig, skip=("iteration", "prior.kind"))
    qtbot.addWidget(form)
    folds = [fold.text().split(maxsplit=1)[1] for fold in form.findChildren(Fold)]
    assert folds == ["Prior", "Lipschitz"]
    assert "kind" not in form.parts["prior"].fields
    assert "kind" in form.parts["lipschitz"].fields
    form.set_value(NetworkConfig(prior=DnCNNConfig()))
    form.parts["prior"].fields["layers"].value = 9
    assert form.raw()["prior"]["layers"] == 9
    assert form.value() == NetworkConfig(prior=DnCNNConfig(layers=9))


def test_every_widget_is_magicguis(qtbot):
    form = RecordForm(Choices)
    qtbot.addWidget(form)
    assert all(isinstance(field, BaseValueWidget) for field in form.fields.values())
    heard = []
    form.changed.connect(lambda: heard.append(True))
    form.fields["patch_size"].value = 32
    assert heard


def test_a_fold_that_is_open_grows_with_what_is_inside(qtbot):
    late = QLabel("one<br>two<br>three")
    late.hide()
    fold = Fold("More", late)
    qtbot.addWidget(fold)
    fold.show()
    assert not fold.content().isVisible()
    qtbot.mouseClick(fold.button, Qt.MouseButton.LeftButton)
    before = fold.sizeHint().height()
    late.show()
    qtbot.waitUntil(lambda: fold.sizeHint().height() >= before + late.sizeHint().height())
    assert fold.content().maximumHeight() > late.sizeHint().height()


def test_a_long_list_is_searched_and_keeps_its_choice(qtbot):
    box = Searchable()
    qtbot.addWidget(box)
    box.addItems(["FDK", "total variation", "unrolled"])
    box.show()
    box.lineEdit().selectAll()
    qtbot.keyClicks(box.lineEdit(), "Total Variation")
    qtbot.keyClick(box.lineEdit(), Qt.Key.Key_Return)
    assert box.currentIndex() == 1
    box.setEditText("nonsense")
    box.lineEdit().editingFinished.emit()
    assert box.currentText() == "total variation"


def test_a_long_entry_of_a_list_shows_its_beginning(qtbot):
    box = Searchable()
    qtbot.addWidget(box)
    box.addItems(["FDK", "automatic: unrolled proximal gradient"])
    for silent in (True, False):
        box.setCurrentIndex(0)
        box.blockSignals(silent)
        box.setCurrentIndex(1)
        box.blockSignals(False)
        assert box.lineEdit().cursorPosition() == 0


def test_messages_and_plots_follow_the_theme(viewer, qtbot):
    message, curve = Message(viewer), Curve(viewer, "x", "y")
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.addWidget(message)
    column.addWidget(curve)
    viewer.window.add_dock_widget(holder, name="held")
    message.say("Wrong.", "error")
    viewer.theme = "dark"
    dark = message.styleSheet(), curve.backgroundBrush().color().lightness()
    viewer.theme = "light"
    qtbot.waitUntil(lambda: message.styleSheet() != dark[0])
    assert dark[1] < 127 < curve.backgroundBrush().color().lightness()
    assert curve.getAxis("left").textPen().color().lightness() < 127


class Texts(Record):
    """Texts that name a place on the disk, and one that only speaks of a file."""

    mask: FileName | None = Field(None, description="What was measured.")
    volumes: FolderName = Field("", description="Where they are.")
    variable: str | None = Field(None, description="Name of the array, where the file has several.")


def test_a_text_can_be_browsed_for_where_its_record_says_that_it_names_a_place(qtbot, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("mask.npy", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "objects")
    form = RecordForm(Texts)
    qtbot.addWidget(form)
    buttons = {name: field.native.line.actions() for name, field in form.fields.items()}
    assert {name: [b.text() for b in found] for name, found in buttons.items()} == {
        "mask": ["Choose a file"], "volumes": ["Choose a folder"], "variable": [],
    }  # fmt: skip
    for found in buttons.values():
        for browse in found:
            browse.trigger()
    assert form.value() == Texts(mask="mask.npy", volumes="objects")
