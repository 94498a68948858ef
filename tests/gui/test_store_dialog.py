"""The dialog that asks where to keep a store: one that is there is chosen, not opened, and only replaced when the user says so."""

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QLineEdit, QMessageBox

from napari_unroll.gui import store_dialog
from napari_unroll.gui.store_dialog import StoreDialog, ask_store


@pytest.mark.parametrize(("answer", "chosen"), [("Yes", True), ("No", False)])
def test_a_store_that_is_there_is_chosen_after_a_question(qtbot, tmp_path, monkeypatch, answer, chosen):
    store = tmp_path / "there.ome.zarr"
    store.mkdir()
    asked = []

    def question(parent, title, text):
        asked.append(text)
        return QMessageBox.StandardButton[answer]

    monkeypatch.setattr(store_dialog.QMessageBox, "question", question)

    def type_and_accept():
        dialog = next(w for w in QApplication.topLevelWidgets() if isinstance(w, StoreDialog))
        dialog.findChild(QLineEdit).setText(str(store))
        dialog.accept()
        if dialog.isVisible():
            dialog.reject()

    QTimer.singleShot(100, type_and_accept)
    assert ask_store(None, "Keep") == (store if chosen else None)
    assert "there.ome.zarr exists already" in asked[0]


def test_a_new_name_is_taken_without_a_question(qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(store_dialog.QMessageBox, "question", lambda *_: pytest.fail("asked"))
    dialog = StoreDialog(None, "Keep", "result.ome.zarr")
    qtbot.addWidget(dialog)
    dialog.setDirectory(str(tmp_path))
    dialog.findChild(QLineEdit).setText("new.ome.zarr")
    dialog.accept()
    assert dialog.path == tmp_path / "new.ome.zarr"
    assert dialog.result() == StoreDialog.DialogCode.Accepted
